"""Unserved fields: refused because the answer would differ otherwise, each with a reason. Pure.

Every other field outside a route's list is ignored; `tests/data/fidelity.md` lists both.
"""

from __future__ import annotations

from typing import Final

_TOKENS: Final = "Answers and prompts are returned without token ids."
_CONSTRAINT: Final = "Set the constraint in 'structured_outputs'."
_MEDIA: Final = "Media are read as the endpoint is set up."

_ENGINES: Final = {
    "chat_template": "The endpoint's own chat template applies; set its variables in 'chat_template_kwargs'.",
    "documents": "Send documents as text within the prompt.",
    "guided_choice": _CONSTRAINT,
    "guided_grammar": _CONSTRAINT,
    "guided_json": _CONSTRAINT,
    "guided_regex": _CONSTRAINT,
    "logprob_token_ids": _TOKENS,
    "media_io_kwargs": _MEDIA,
    "mm_processor_kwargs": _MEDIA,
    "prompt_embeds": "Send the prompt as text or tokens.",
    "prompt_logprobs": "Log probabilities of prompts are not offered.",
    "repetition_detection": "Repetition detection is not offered; use 'repetition_penalty'.",
    "return_token_ids": _TOKENS,
    "return_token_offsets": _TOKENS,
    "return_tokens_as_token_ids": _TOKENS,
    "use_beam_search": "Beam search is not offered.",
    "vllm_xargs": "Engine arguments are not taken from requests.",
    "watermarking": "Watermarking is not offered.",
}
_TOOLS: Final = {
    "function_call": "Use 'tool_choice'.",
    "functions": "Use 'tools'.",
}
COMPLETIONS_UNSERVED: Final = _ENGINES
CHAT_UNSERVED: Final = {
    **_ENGINES,
    **_TOOLS,
    "audio": "Answers are text only.",
    "echo": "Chat answers do not repeat the prompt.",
    "max_output_tokens": "Use 'max_completion_tokens'.",
    "return_prompt_text": "Chat answers do not repeat the prompt.",
    "stop_sequences": "Use 'stop'.",
    "system": "Send a system prompt as the first of 'messages'.",
    "web_search_options": "Endpoints search nothing for their callers.",
}
_NOT_IN_BATCHES: Final = "A batch does not take it; use /v1/chat/completions."
BATCH_UNSERVED: Final = {
    **CHAT_UNSERVED,
    "allowed_token_ids": _NOT_IN_BATCHES,
    "bad_words": _NOT_IN_BATCHES,
    "ignore_eos": _NOT_IN_BATCHES,
    "min_tokens": _NOT_IN_BATCHES,
    "reasoning_effort": _NOT_IN_BATCHES,
    "stop_token_ids": _NOT_IN_BATCHES,
    "stream": "A batch is answered as a whole.",
    "tools": "A batch takes no tools.",
    "truncate_prompt_tokens": _NOT_IN_BATCHES,
}
_NOTHING_KEPT: Final = "Answers are not kept here: send the whole conversation in 'input'."
RESPONSES_UNSERVED: Final = {
    **_ENGINES,
    **_TOOLS,
    "background": "Answers are not kept here, so none can be made in the background.",
    "conversation": _NOTHING_KEPT,
    "max_completion_tokens": "Use 'max_output_tokens'.",
    "max_tokens": "Use 'max_output_tokens'.",
    "messages": "Use 'input'.",
    "min_tokens": "This route has no least number of tokens.",
    "previous_response_id": _NOTHING_KEPT,
    "prompt": "Stored prompts are not offered: send the prompt in 'input'.",
    "response_format": "Use 'text.format'.",
}
MESSAGES_UNSERVED: Final = {
    **_ENGINES,
    "container": "Endpoints run no code for their callers.",
    "mcp_servers": "Endpoints call no servers for their callers.",
    "response_format": "Use 'output_config'.",
    "stop": "Use 'stop_sequences'.",
}
READING_UNSERVED: Final = {
    "chat_template": _ENGINES["chat_template"],
    "mm_processor_kwargs": _MEDIA,
    "normalize": "Use 'use_activation'.",
    "prompt_embeds": _ENGINES["prompt_embeds"],
}

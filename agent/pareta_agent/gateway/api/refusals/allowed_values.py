"""Allowed values: the text for each request field with a value that the engine refuses. Pure.

The engine checks the values. A refusal is answered with the field's line here, and with the numbers of the endpoint
(`{vocabulary}`, `{context}`, `{most}`) if the engine named any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from pareta_agent.contract.api_errors import Problem

MAX_CHOICES: Final = 128
MAX_SENT_CHARS: Final = 100
_ANSWER: Final = "an integer from 1 to the endpoint's context"
_BIAS: Final = "a number from -2 to 2"
_BOOLEAN: Final = "a boolean"
_TEXT: Final = "a text"
_OBJECT: Final = "an object"
_TOKEN_IDS: Final = "an array of token ids of the endpoint's vocabulary"
_STOP: Final = "a text or an array of at most 4 texts, none of them empty"

ALLOWED: Final[Mapping[str, str]] = {
    "add_generation_prompt": f"{_BOOLEAN}, and false where 'continue_final_message' is true",
    "add_special_tokens": _BOOLEAN,
    "allowed_token_ids": f"a non-empty {_TOKEN_IDS.removeprefix('an ')}",
    "bad_words": "an array of texts of 128 words in all, none of them empty",
    "chat_template_kwargs": "an object of variables of the chat template",
    "continue_final_message": f"{_BOOLEAN}, and false where 'add_generation_prompt' is true",
    "dimensions": "a number of dimensions that the endpoint's model can give",
    "documents": "a non-empty array of texts",
    "echo": _BOOLEAN,
    "frequency_penalty": _BIAS,
    "ignore_eos": _BOOLEAN,
    "include": "an array of 'message.output_text.logprobs' or 'reasoning.encrypted_content'",
    "include_reasoning": _BOOLEAN,
    "include_stop_str_in_output": _BOOLEAN,
    "input": "a non-empty text, texts, messages that the endpoint's model reads, or token ids of its vocabulary",
    "instruction": _TEXT,
    "instructions": _TEXT,
    "language": "the ISO-639-1 code of a language that the endpoint's model transcribes",
    "length_penalty": "a number",
    "logit_bias": "an object of token ids of the endpoint's vocabulary, each with a number from -100 to 100",
    "logprobs": f"{_BOOLEAN} in chats, an integer from 0 to 20 in completions",
    "max_completion_tokens": _ANSWER,
    "max_output_tokens": _ANSWER,
    "max_tokens": _ANSWER,
    "max_tokens_per_doc": "an integer from 1 to the endpoint's context, or 0 for no limit",
    "max_tokens_per_query": "an integer from 1 to the endpoint's context, or 0 for no limit",
    "max_tool_calls": "an integer of at least 1",
    "messages": "an array of messages, each with a role and a content that the endpoint's model reads",
    "metadata": "an object of texts",
    "min_p": "a number from 0 to 1",
    "min_tokens": "an integer from 0 to the number of output tokens that is asked for",
    "n": f"an integer from 1 to {MAX_CHOICES}",
    "output_config": "an object with a 'format' or an 'effort'",
    "parallel_tool_calls": _BOOLEAN,
    "presence_penalty": _BIAS,
    "prompt": "a non-empty text, or texts or token ids of the endpoint's vocabulary",
    "query": _TEXT,
    "reasoning": "an object with an 'effort' of none, minimal, low, medium, high or xhigh",
    "reasoning_effort": "one of none, minimal, low, medium, high, xhigh or max",
    "repetition_penalty": "a number above 0",
    "response_format": "an object whose 'type' is text, json_object, structural_tag or json_schema, with its fields",
    "seed": "an integer of 64 bits",
    "skip_special_tokens": _BOOLEAN,
    "spaces_between_special_tokens": _BOOLEAN,
    "stop": _STOP,
    "stop_sequences": "an array of at most 4 texts, none of them empty",
    "stop_token_ids": _TOKEN_IDS,
    "stream_options": _OBJECT,
    "structured_outputs": (
        "an object with one of 'json', 'regex', 'choice', 'grammar', 'json_object' and 'structural_tag'"
    ),
    "suffix": "left out: the endpoint's model does not insert text",
    "system": "a text or an array of text blocks",
    "task": "a task of the endpoint's model",
    "temperature": "a number from 0 to 2",
    "text": "an object with a 'format' or a 'verbosity'",
    "text_1": "a non-empty text or an array of texts",
    "text_2": "a non-empty text or an array of texts",
    "thinking": (
        "an object whose 'type' is adaptive, disabled, or enabled with a 'budget_tokens' from 1024 to 'max_tokens'"
    ),
    "thinking_token_budget": "an integer of at least 0, or -1 for no limit",
    "timestamp_granularities[]": "segment",
    "tokens": "an array of token ids",
    "tool_choice": "none, auto, required, or a function that 'tools' names",
    "tools": "a non-empty array of functions, each with a name and a JSON schema of its parameters",
    "top_k": "an integer of at least 1, or 0 for no limit",
    "top_logprobs": "an integer from 0 to 20, with 'logprobs' true",
    "top_n": "an integer of at least 0",
    "top_p": "a number above 0 and at most 1",
    "truncate_prompt_tokens": "an integer from 1 to the endpoint's context, or -1 for the context",
    "truncation": "auto or disabled",
    "truncation_side": "left or right",
    "use_activation": _BOOLEAN,
    "user": _TEXT,
}


def not_allowed(field: str, fields: Mapping[str, Any], allowed: str = "", sent: str | None = None) -> Problem:
    """The refusal of a field's value: the allowed values, and the value that was sent."""
    may = allowed or ALLOWED.get(field, "a value that this endpoint takes")
    text = f"'{field}' must be {may}{sent_of(field, fields) if sent is None else sent}."
    return Problem("invalid_value", text, field)


def sent_of(field: str, fields: Mapping[str, Any]) -> str:
    """`; you sent …`, shortened if long."""
    if field not in fields:
        return ""
    try:
        sent = orjson.dumps(fields[field]).decode()
    except TypeError:  # a file
        return ""
    if len(sent) > MAX_SENT_CHARS:
        sent = f"{sent[:MAX_SENT_CHARS]}…"
    return f"; you sent {sent}"

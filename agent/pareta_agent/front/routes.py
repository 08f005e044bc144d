"""Which requests are inference, by exact method and raw target: everything else is not for the engine.

The table is the allowlist. A target with a query, an escape, a doubled slash or an absolute form is simply
another string, so it is not in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING: Final = _names(
    "temperature top_p top_k min_p n seed stop stop_token_ids frequency_penalty presence_penalty"
    " repetition_penalty length_penalty logit_bias min_tokens ignore_eos skip_special_tokens"
    " spaces_between_special_tokens include_stop_str_in_output bad_words allowed_token_ids"
    " truncate_prompt_tokens response_format structured_outputs max_tokens logprobs user"
)

_POOLING: Final = _names("user truncate_prompt_tokens truncation_side")
_SCORING: Final = _POOLING | _names("use_activation max_tokens_per_query max_tokens_per_doc instruction")


@dataclass(frozen=True, slots=True)
class Route:
    """One inference route. `fields` may reach the engine; `prompt` is the field that must be there.

    `streams` says whether `stream` is understood; `generates` whether output tokens are expected. `documents` is
    the field whose length is the number of prompts, where one call carries several; `media` whether parts of the
    prompt may be `data:` URLs, which make a body large.
    """

    path: str
    prompt: str
    fields: frozenset[str]
    streams: bool = True
    generates: bool = True
    documents: str | None = None
    media: bool = True


CHAT: Final = Route(
    "/v1/chat/completions",
    "messages",
    _SAMPLING
    | _names(
        "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls"
        " reasoning_effort include_reasoning thinking_token_budget chat_template_kwargs"
        " add_generation_prompt continue_final_message"
    ),
)
COMPLETIONS: Final = Route(
    "/v1/completions",
    "prompt",
    _SAMPLING | _names("prompt suffix echo add_special_tokens"),
    documents="prompt",
    media=False,
)


def _reading(path: str, prompt: str, allowed: frozenset[str], documents: str) -> Route:
    """A route whose model reads and generates nothing."""
    return Route(path, prompt, allowed, streams=False, generates=False, documents=documents)


EMBEDDINGS: Final = _reading(
    "/v1/embeddings", "input", _POOLING | _names("input encoding_format dimensions"), "input"
)
POOLING: Final = _reading(
    "/pooling", "input", _POOLING | _names("input encoding_format dimensions task use_activation"), "input"
)
SCORE: Final = _reading("/v1/score", "text_1", _SCORING | _names("text_1 text_2"), "text_2")
RERANK: Final = _reading("/v1/rerank", "query", _SCORING | _names("query documents top_n"), "documents")

INFERENCE: Final[dict[tuple[bytes, bytes], Route]] = {
    (b"POST", route.path.encode()): route for route in (CHAT, COMPLETIONS, EMBEDDINGS, POOLING, SCORE, RERANK)
}

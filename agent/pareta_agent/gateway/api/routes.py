"""Route table: the requests that are inference, by method and path. Nothing else reaches an engine.

The table is the allowlist. A query and a slash at the end are ignored. A target with an escape, a doubled slash, a
fragment or an absolute form is not in the table. No part of a target reaches an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent.gateway.api.dialects.anthropic_messages import MESSAGES_DIALECT, UNBILLED_MESSAGES_DIALECT
from pareta_agent.gateway.api.dialects.base import OPENAI, VOCABULARY_DIALECT, Dialect
from pareta_agent.gateway.api.dialects.openai_responses import RESPONSES_DIALECT
from pareta_agent.gateway.api.dialects.transcription import TRANSCRIPTION_DIALECT
from pareta_agent.gateway.api.refusals.unserved_fields import (
    BATCH_UNSERVED,
    CHAT_UNSERVED,
    COMPLETIONS_UNSERVED,
    MESSAGES_UNSERVED,
    READING_UNSERVED,
    RESPONSES_UNSERVED,
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING: Final = _names(
    "temperature top_p top_k min_p n seed stop stop_token_ids frequency_penalty presence_penalty"
    " repetition_penalty length_penalty logit_bias min_tokens ignore_eos skip_special_tokens"
    " spaces_between_special_tokens include_stop_str_in_output bad_words allowed_token_ids"
    " truncate_prompt_tokens truncation_side response_format structured_outputs max_tokens logprobs user"
)

_POOLING: Final = _names("user truncate_prompt_tokens truncation_side")
_SCORING: Final = _POOLING | _names("use_activation max_tokens_per_query max_tokens_per_doc instruction")


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """An inference route.

    - `fields`: may reach the engine; `prompt`: the required field.
    - `streams`: whether `stream` is allowed; `generates`: whether output tokens are expected.
    - `documents`: the field with a length that is the number of prompts, at most `most_prompts`, each of `texts` texts
      that some engines read separately.
    - `media`: whether parts of the prompt may be `data:` URLs, which make a body large.
    - `limits`: the fields that bound an answer; the first that is present counts.
    - `usage_option`: usage must be requested by `stream_options`.
    - `fixed`: always sent; `refused`: refused with a reason if set; `values`: all allowed values of a field.
    - `form`: the body is a form, else JSON.
    - `vocabulary`: uses the tokenizer only, costs nothing, and requires the permission of the catalog entry.
    """

    path: str
    prompt: str
    fields: frozenset[str]
    streams: bool = True
    generates: bool = True
    documents: str | None = None
    most_prompts: int = 2048
    texts: int = 1
    media: bool = True
    limits: tuple[str, ...] = ("max_completion_tokens", "max_tokens")
    default_max_tokens: int | None = None
    usage_option: bool = True
    fixed: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    form: bool = False
    vocabulary: bool = False
    dialect: Dialect = OPENAI


CHAT: Final = Route(
    "/v1/chat/completions",
    "messages",
    _SAMPLING
    | _names(
        "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls"
        " reasoning_effort include_reasoning thinking_token_budget chat_template_kwargs"
        " add_generation_prompt continue_final_message"
    ),
    refused=CHAT_UNSERVED,
    values={"best_of": (1,)},
)
BATCH: Final = Route(  # each conversation is answered by a choice
    "/v1/chat/completions/batch",
    "messages",
    _names(
        "messages temperature top_p top_k min_p seed stop frequency_penalty presence_penalty repetition_penalty"
        " length_penalty logit_bias include_stop_str_in_output response_format structured_outputs max_tokens"
        " max_completion_tokens logprobs top_logprobs user include_reasoning chat_template_kwargs"
        " add_generation_prompt continue_final_message"
    ),
    streams=False,
    documents="messages",
    refused=BATCH_UNSERVED,
    values={"n": (1,), "best_of": (1,)},
)
COMPLETIONS: Final = Route(
    "/v1/completions",
    "prompt",
    _SAMPLING | _names("prompt suffix echo add_special_tokens"),
    documents="prompt",
    media=False,
    limits=("max_tokens",),
    default_max_tokens=16,  # the engine's own on this route
    most_prompts=1024,  # the engine's own on this route
    refused=COMPLETIONS_UNSERVED,
    values={"best_of": (1,)},
)
RESPONSES: Final = Route(
    "/v1/responses",
    "input",
    _names(
        "input instructions max_output_tokens max_tool_calls metadata parallel_tool_calls reasoning include"
        " include_reasoning temperature top_p top_k min_p text tool_choice tools top_logprobs truncation user"
        " presence_penalty frequency_penalty repetition_penalty logit_bias seed stop stop_token_ids ignore_eos"
        " skip_special_tokens include_stop_str_in_output structured_outputs chat_template_kwargs"
    ),
    limits=("max_output_tokens",),
    usage_option=False,
    fixed={"store": False},
    refused=RESPONSES_UNSERVED,
    dialect=RESPONSES_DIALECT,
)
MESSAGES: Final = Route(
    "/v1/messages",
    "messages",
    _names(
        "messages max_tokens system metadata stop_sequences temperature top_p top_k thinking output_config"
        " tool_choice tools chat_template_kwargs"
    ),
    limits=("max_tokens",),
    usage_option=False,
    refused=MESSAGES_UNSERVED,
    dialect=MESSAGES_DIALECT,
)
COUNT_TOKENS: Final = Route(
    "/v1/messages/count_tokens",
    "messages",
    _names("messages system thinking output_config tool_choice tools chat_template_kwargs"),
    streams=False,
    generates=False,
    vocabulary=True,
    dialect=UNBILLED_MESSAGES_DIALECT,
)
TALKING: Final = (CHAT, BATCH, RESPONSES, MESSAGES, COUNT_TOKENS)


def _reading(path: str, prompt: str, allowed: frozenset[str], documents: str, texts: int = 1) -> Route:
    """A route with a model that reads and does not generate."""
    # The engine's other encodings are no JSON, so no usage could be read.
    encodings = {"encoding_format": ("float", "base64")}
    return Route(
        path,
        prompt,
        allowed,
        streams=False,
        generates=False,
        documents=documents,
        texts=texts,
        refused=READING_UNSERVED,
        values=encodings,
    )


EMBEDDINGS: Final = _reading(
    "/v1/embeddings", "input", _POOLING | _names("input encoding_format dimensions"), "input"
)
POOLING: Final = _reading(
    "/pooling", "input", _POOLING | _names("input encoding_format dimensions task use_activation"), "input"
)
SCORE: Final = _reading("/v1/score", "text_1", _SCORING | _names("text_1 text_2"), "text_2", 2)
RERANK: Final = _reading("/v1/rerank", "query", _SCORING | _names("query documents top_n"), "documents", 2)

TRANSCRIPTIONS: Final = Route(
    "/v1/audio/transcriptions",
    "file",
    _names("file language prompt response_format temperature timestamp_granularities[] seed hotwords"),
    generates=False,
    usage_option=False,
    values={"response_format": ("json", "verbose_json")},
    form=True,
    dialect=TRANSCRIPTION_DIALECT,
)


def _vocabulary(path: str, prompt: str, allowed: str) -> Route:
    return Route(
        path,
        prompt,
        _names(f"{prompt} {allowed}"),
        streams=False,
        generates=False,
        media=False,
        vocabulary=True,
        dialect=VOCABULARY_DIALECT,
    )


TOKENIZE: Final = _vocabulary("/tokenize", "prompt", "add_special_tokens return_token_strs")
DETOKENIZE: Final = _vocabulary("/detokenize", "tokens", "")

_READING: Final = (EMBEDDINGS, POOLING, SCORE, RERANK, TRANSCRIPTIONS, TOKENIZE, DETOKENIZE)
_ROUTES: Final = (*TALKING, COMPLETIONS, *_READING)
INFERENCE: Final[dict[tuple[bytes, bytes], Route]] = {
    (b"POST", route.path.encode()): route for route in _ROUTES
}


def route_of(method: bytes, target: bytes) -> Route | None:
    """The inference route of a request; None if the request is not inference."""
    exact = INFERENCE.get((method, target))
    return exact or INFERENCE.get((method, target.partition(b"?")[0].removesuffix(b"/")))

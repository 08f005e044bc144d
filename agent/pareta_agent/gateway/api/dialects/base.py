"""Dialects: parse the answers and write the errors of a family of routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from pareta_agent.contract.api_errors import Problem, body_of, event_of
from pareta_agent.contract.usage_record import Tokens
from pareta_agent.gateway.upstream.sse import CHOICES, StreamFormat
from pareta_agent.meter.usage import tokens_of
from pareta_agent.value import value

# OpenAI's own answers may hold these as null: in a document, a choice and a message.
_OPENAI_NULLS: Final = frozenset(
    (
        "audio",
        "annotations",
        "content",
        "finish_reason",
        "function_call",
        "logprobs",
        "refusal",
        "service_tier",
    )
)


@value
class Reading:
    """A parsed answer: a finish reason for each choice, the token counts, and the caller's bytes."""

    finish_reasons: tuple[str, ...]
    tokens: Tokens | None
    document: bytes
    audio_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Dialect:
    """Selected once a request. `read` may raise JSONDecodeError, TypeError or AttributeError for an invalid answer.

    - `error_event`: receives the number of events before the error.
    - `id_headers`: carry the request's id.
    - `key_header`: may carry the key in place of `authorization`.
    """

    stream_format: StreamFormat
    read: Callable[[bytes], Reading]
    error_body: Callable[[Problem], bytes]
    error_event: Callable[[Problem, int], bytes]
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    key_header: bytes | None = None


def read_choices(answer: bytes) -> Reading:
    """Parses chat, completions and routes without generation; removes the engine's fingerprint and nulls."""
    document = orjson.loads(answer)
    choices, usage = document.get("choices") or (), document.get("usage")
    changed = document.pop("system_fingerprint", None) is not None
    for part in (document, *choices, *(choice.get("message") or {} for choice in choices)):
        changed |= drop_nulls(part, _OPENAI_NULLS)
    return Reading(
        tuple(choice["finish_reason"] for choice in choices if choice.get("finish_reason")),
        tokens_of(usage) if isinstance(usage, dict) else None,
        orjson.dumps(document) if changed else answer,
    )


def drop_nulls(part: dict[str, Any], kept: frozenset[str]) -> bool:
    """Removes nulls that OpenAI's API does not have; whether there were any."""
    empty = [name for name, held in part.items() if held is None and name not in kept]
    for name in empty:
        del part[name]
    return bool(empty)


def read_unbilled(answer: bytes) -> Reading:
    """Parses an answer that no model made: no tokens count."""
    return Reading((), Tokens(), answer)


OPENAI: Final = Dialect(CHOICES, read_choices, body_of, lambda problem, _: event_of(problem))
VOCABULARY_DIALECT: Final = replace(OPENAI, read=read_unbilled)

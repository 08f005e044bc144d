"""Anthropic messages: typed events without `[DONE]`, and a null stop reason for an aborted answer. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import orjson

from pareta_agent.contract.api_errors import Problem, error_object
from pareta_agent.gateway.api.dialects.base import Dialect, Reading, read_unbilled
from pareta_agent.gateway.upstream.sse import Listener, StreamFormat
from pareta_agent.meter.usage import tokens_of

_KINDS: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_content_only(events: bytes) -> bool:
    """True if no event holds usage, an error or the end: generated text cannot contain bare quotes around such keys."""
    return (
        events.find(b'"usage":') < 0
        and events.find(b'"error"') < 0
        and events.find(b'"message_stop"') < 0
        and events.find(b"[DONE]") < 0
    )


def parse_event(listener: Listener, event: bytes, body: dict[str, Any]) -> bytes:
    kind = body.get("type")
    if kind == "error":
        listener.failed = True
        return b""
    if kind == "message_stop":
        listener.done, listener.last = True, event
        return b""
    delta, usage = body.get("delta"), body.get("usage")
    if kind == "message_delta" and isinstance(delta, dict):
        listener.finish_reasons.append(_reason(delta))
        if isinstance(usage, dict):
            listener.tokens = tokens_of(usage)
    return event


def read(answer: bytes) -> Reading:
    message = orjson.loads(answer)
    usage = message.get("usage")
    return Reading((_reason(message),), tokens_of(usage) if isinstance(usage, dict) else None, answer)


def error_body(problem: Problem) -> bytes:
    """Anthropic's error with this API's code and parameter, and `detail` for FastAPI clients."""
    return orjson.dumps({"type": "error", "error": _error(problem), "detail": problem.text})


def error_event(problem: Problem, _events: int) -> bytes:
    return b"event: error\ndata: " + orjson.dumps({"type": "error", "error": _error(problem)}) + b"\n\n"


def _error(problem: Problem) -> dict[str, str | None]:
    kind = "invalid_request_error" if problem.status < 500 else "api_error"
    return {**error_object(problem), "type": _KINDS.get(problem.status, kind)}


def _reason(ended: dict[str, Any]) -> str:
    """The reason of an answer's end; the engine omits the reason of an aborted answer."""
    reason = ended.get("stop_reason")
    return reason if isinstance(reason, str) else "abort"


MESSAGES_DIALECT: Final = Dialect(
    StreamFormat(is_content_only, parse_event, (b'"type":"text_delta","text":"',), 2),
    read,
    error_body,
    error_event,
    (b"x-request-id", b"request-id"),
    b"x-api-key",
)
UNBILLED_MESSAGES_DIALECT: Final = replace(MESSAGES_DIALECT, read=read_unbilled)

"""OpenAI responses: typed events, the last of which holds the whole answer and the usage. Pure.

The engine reports an aborted answer as completed, so the token counts decide. A draining engine finishes running
requests and refuses the rest by an empty answer; a complete answer has at least the last token.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from pareta_agent.contract.api_errors import Problem, body_of, error_object
from pareta_agent.contract.usage_record import Tokens
from pareta_agent.gateway.api.dialects.base import Dialect, Reading, drop_nulls
from pareta_agent.gateway.upstream.sse import Listener, StreamFormat
from pareta_agent.meter.usage import tokens_of

_ENDS: Final = ("response.completed", "response.incomplete", "response.cancelled")
_OPENAI_NULLS: Final = frozenset(
    (
        "background",
        "conversation",
        "error",
        "incomplete_details",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "previous_response_id",
        "prompt",
        "reasoning",
        "temperature",
        "text",
        "top_logprobs",
        "top_p",
        "usage",
        "user",
    )
)
_REASONS: Final = {"completed": "stop", "incomplete": "length", "cancelled": "abort"}


def is_content_only(events: bytes) -> bool:
    """True if no event holds a response or an error: keys, with quotes that no generated text can contain."""
    return events.find(b'"response":') < 0 and events.find(b'"error"') < 0 and events.find(b"[DONE]") < 0


def parse_event(listener: Listener, event: bytes, body: dict[str, Any]) -> bytes:
    kind, response = body.get("type"), body.get("response")
    if kind in ("error", "response.failed") or body.get("error"):
        listener.failed = True
        return b""
    if kind in _ENDS and isinstance(response, dict):
        listener.tokens = _tokens(response)
        listener.finish_reasons += _reasons(response, listener.tokens)
        listener.done, listener.last = True, event
        return b""
    return event


def read(answer: bytes) -> Reading:
    response = orjson.loads(answer)
    tokens = _tokens(response)
    changed = drop_nulls(response, _OPENAI_NULLS)
    return Reading(_reasons(response, tokens), tokens, orjson.dumps(response) if changed else answer)


def error_event(problem: Problem, events: int) -> bytes:
    """The API's own error event, with the additional object that makes `openai` raise."""
    error = error_object(problem)
    fields = {"code": error["code"], "message": error["message"], "param": error["param"]}
    body = {"type": "error", **fields, "sequence_number": events, "error": error}
    return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"


def _tokens(response: dict[str, Any]) -> Tokens | None:
    usage = response.get("usage")
    return tokens_of(usage) if isinstance(usage, dict) else None


def _reasons(response: dict[str, Any], tokens: Tokens | None) -> tuple[str, ...]:
    if tokens is None or not tokens.output:
        return ("abort",)
    reason = _REASONS.get(str(response.get("status")))
    return (reason,) if reason else ()


RESPONSES_DIALECT: Final = Dialect(
    StreamFormat(is_content_only, parse_event, (), 4), read, body_of, error_event
)

"""What an engine's refusal means to the caller. Pure; the engine's own words stop here.

vLLM's messages carry Python reprs, flags and file paths, so only numbers and a known parameter's name are taken
out of them.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from pareta_agent.front.envelope import Problem
from pareta_agent.front.routes import Route

_LIMIT: Final = re.compile(r"maximum context length (?:is|of) (\d+)")
_OVER: Final = re.compile(r"prompt length (\d+) exceeds the max_model_len (\d+)")
_TOO_MANY: Final = re.compile(r"max_\w+=(\d+) cannot be greater than \w+=(\d+)")
_PROMPT: Final = re.compile(r"(\d+) (?:input|prompt) tokens")
_WANTED: Final = re.compile(r"(?:requested|request for) (\d+) (?:output|completion) tokens")
_NAMED: Final = re.compile(r"\(parameter=(\w+)")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# A validation error names its place as a tuple or with dots, by version.
_LOCATED: Final = re.compile(r"'loc': (?:\('body', '|'body\.)(\w+)")


def problem_of(status: int, body: bytes, route: Route) -> Problem:
    """The catalogue's answer to an engine's answer that was no success."""
    if status == 429 or (status == 503 and b"queue" in body.lower()):
        return Problem("endpoint_busy")
    if status == 503:
        return Problem("engine_unreachable")
    if status in (404, 405) or not 400 <= status < 500:
        return Problem("route_unsupported" if _is_unserved(status, body) else "engine_failed")
    error = _error_of(body)
    message, param = str(error.get("message", "")), error.get("param")
    if context := _LIMIT.search(message):
        return _too_long(context.group(1), message, route)
    if over := _OVER.search(message):
        return _too_long(over.group(2), f"{over.group(1)} prompt tokens", route)
    if too_many := _TOO_MANY.search(message):
        asked, limit = too_many.groups()
        text = f"{asked} output tokens were asked for; this endpoint's context is {limit} tokens."
        return Problem("invalid_value", text, _field_of(str(param), message, route) or route.limits[0])
    if field := _field_of(str(param), message, route):
        return Problem("invalid_value", f"The value of '{field}' is not valid for this endpoint.", field)
    return Problem("invalid_request")


def _too_long(limit: str, message: str, route: Route) -> Problem:
    prompt, wanted = _PROMPT.search(message), _WANTED.search(message)
    said = f"This endpoint's maximum context length is {limit} tokens."
    if prompt and wanted:
        said += f" You asked for {wanted.group(1)} output tokens after a prompt of {prompt.group(1)} tokens."
    elif prompt:
        said += f" Your prompt has at least {prompt.group(1)} tokens."
    return Problem("context_length_exceeded", f"{said} Shorten the prompt or the answer.", route.prompt)


def _field_of(param: str, message: str, route: Route) -> str | None:
    """The caller's field that the engine complains of, if it is one that may reach the engine."""
    named = [re.split(r"[.\[]", param, maxsplit=1)[0]]
    named += [found.group(1) for place in (_NAMED, _LOCATED) if (found := place.search(message))]
    if field := next((name for name in named if name in route.fields), None):
        return field
    # A route that the engine serves by another one is told that one's name for the limit.
    return route.limits[0] if any(name in _LIMITS for name in named) else None


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    return error if isinstance(error, dict) else {}


def _is_unserved(status: int, body: bytes) -> bool:
    # The router's own 404 has `detail` and no `error`; a handler that has nothing to answer with says 501.
    return status == 501 or (status in (404, 405) and body.startswith(b'{"detail"'))

"""Engine errors: translate an engine's refusal into the error catalogue. Pure.

vLLM's messages contain Python reprs, flags and file paths. Only numbers and a known field's name are read from vLLM's
text; the sentences are the catalogue's (`gateway/api/refusals/allowed_values.py`,
`gateway/api/refusals/engine_rules.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.refusals import constraint_errors, context_errors
from pareta_agent.gateway.api.refusals.allowed_values import not_allowed
from pareta_agent.gateway.api.refusals.engine_rules import by_rule, limit_of
from pareta_agent.gateway.api.routes import Route

_NAMED: Final = re.compile(r"\(parameter=(\w+)")
# A validation error names the field as a tuple or with dots, by version.
_LOCATED: Final = re.compile(r"'loc': (?:\('body', '|'body\.)(\w+)")
_LEADING: Final = re.compile(r"\A`?(\w+)`? (?:value )?(?:must|cannot|contains|entries|is)\b")
# A model of an answer, not of a request, that could not be made of what was generated.
_UNFORMED: Final = re.compile(r"\d+ validation errors? for (?!\w*(?:Request|Param|Tool|Validator))\w+\n")
_EARLY: Final = ("context_length_exceeded", "invalid_value")
# The engine's field names on a route that is served by another route.
_ELSEWHERE: Final = {"stop": "stop_sequences", "response_format": "output_config"}
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_NO_FIELDS: Final[Mapping[str, Any]] = {}


def problem_of(status: int, body: bytes, route: Route, fields: Mapping[str, Any] = _NO_FIELDS) -> Problem:
    """The catalogue's error for an engine's error status; `fields` are the caller's."""
    if status == 429 or (status == 503 and b"queue" in body.lower()):
        return Problem("endpoint_busy")
    if status == 503:
        return Problem("engine_unreachable")
    error = _error_of(body)
    message, param = str(error.get("message", "")), str(error.get("param"))
    if status == 500 and (uncompiled := constraint_errors.uncompiled(message, fields)):
        return uncompiled
    if status in (404, 405) or not 400 <= status < 500:
        return Problem("route_unsupported" if _is_unserved(status, body) else "engine_failed")
    if _UNFORMED.match(message):
        return Problem("engine_failed")
    return (
        context_errors.overflow(message, route)
        or constraint_errors.refused(message, fields)
        or by_rule(message, route, fields)
        or _by_field(param, message, route, fields)
        or Problem("invalid_request")
    )


def problem_in(event: bytes, route: Route, fields: Mapping[str, Any] = _NO_FIELDS) -> Problem:
    """The catalogue's error for an error event before any text of a stream."""
    code = _error_of(event).get("code")
    return problem_of(code if isinstance(code, int) else 500, event, route, fields)


def precedes_work(status: int, problem: Problem, prompts: int) -> bool:
    """True if the engine refused before any work. The engine checks the prompts in turn, and may work on other
    prompts meanwhile.

    ValueErrors during the work are 400 too, so a 400 without a known rule proves nothing.
    """
    return status not in (400, 422) or (problem.code in _EARLY and prompts == 1)


def _by_field(param: str, message: str, route: Route, fields: Mapping[str, Any]) -> Problem | None:
    field = _field_of(param, message, route, fields)
    return None if field is None else not_allowed(field, fields)


def _field_of(param: str, message: str, route: Route, fields: Mapping[str, Any]) -> str | None:
    """The caller's field that the engine names, if that field may reach the engine."""
    named = [part for part in re.split(r"[.\[]", param, maxsplit=2) if part != "body"][:1]
    named += [*_NAMED.findall(message), *_LOCATED.findall(message), *_LEADING.findall(message)]
    # A route that the engine serves by another route has a different name for the limit.
    limit = next((name for name in named if name in _LIMITS), None)
    if limit is not None:
        return limit_of(route, fields, limit)
    named += [_ELSEWHERE[name] for name in named if name in _ELSEWHERE]
    return next((name for name in named if name in route.fields), None)


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    return error if isinstance(error, dict) else {}


def _is_unserved(status: int, body: bytes) -> bool:
    # The router's own 404 has `detail` and no `error`; a handler that cannot answer returns 501.
    return status == 501 or (status in (404, 405) and body.startswith(b'{"detail"'))

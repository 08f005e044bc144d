"""Request body: reads a caller's body and builds the engine's body, from allowed fields only. Pure.

Values of the right type pass unchanged; the engine checks all values and the refusal is translated. Fields that a
caller may never set (priority, templates, cache salts, transfer parameters) are not in the route's list.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api import conversation, multipart
from pareta_agent.gateway.api.constraints import looping
from pareta_agent.gateway.api.conversation import ill_typed, missing
from pareta_agent.gateway.api.media import media_bytes, points_away
from pareta_agent.gateway.api.refusals.allowed_values import MAX_CHOICES, not_allowed
from pareta_agent.gateway.api.routes import TALKING, Route
from pareta_agent.value import value

MAX_DEPTH: Final = 64
# The engine cannot even refuse these fields unless the values are objects.
_OBJECTS: Final = ("stream_options", "structured_outputs")
_GREEDY_BELOW: Final = 1e-5  # as the engine rounds
# The engine refuses several choices at temperature 0. The likeliest token alone is the same choice by another name.
GREEDY_CHOICES: Final = {"temperature": 1.0, "top_k": 1}


@value
class InferenceRequest:
    """A parsed request. `fields` is the parsed object; `choices` counts prompts × n.

    - `max_tokens`: of each choice; None without a usable value.
    - `audio`: the prompt is audio; an engine counts audio tokens outside the context.
    - `media`: the prompt has media, with tokens that are not bounded by the bytes.
    - `fingerprint`: of a worker's request; this process does not have the fields.
    """

    model: str
    fields: dict[str, Any]
    body_bytes: int
    stream: bool = False
    wants_usage: bool = False
    prompts: int = 1
    n: int = 1
    max_tokens: int | None = None
    generates: bool = True
    audio: bool = False
    media: bool = False
    fingerprint: bytes | None = None

    @property
    def choices(self) -> int:
        return self.prompts * self.n


def read(route: Route, body: bytes | bytearray) -> InferenceRequest | Problem:
    """Parses a body for a route; a Problem names the first invalid field."""
    if route.form:
        return _read_form(route, bytes(body))
    try:
        fields = orjson.loads(body)  # which itself gives up at 1,024 levels
    except orjson.JSONDecodeError:
        return Problem("invalid_json")
    if not isinstance(fields, dict):
        return Problem("not_an_object")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and too_deep(fields):
        return Problem("too_deep")
    media = route.media and (b'"data' in body or b"\\u" in body) and media_bytes(fields) > 0
    return (
        _wrong(route, fields)
        or _remote(route, fields, body)
        or (_looping(fields) if b'"$ref"' in body else None)
        or _request_from(route, fields, len(body), media)
    )


def _read_form(route: Route, body: bytes) -> InferenceRequest | Problem:
    fields = multipart.read(body)
    if fields is None:
        return Problem("invalid_form")
    if fields.get("stream") in ("true", "false"):
        fields["stream"] = fields["stream"] == "true"
    if not isinstance(fields.get(route.prompt), multipart.Upload):
        return missing(route.prompt)
    return _wrong(route, fields) or _request_from(route, fields, len(body))


def rebuild(
    route: Route,
    request: InferenceRequest,
    system_prompt: str | None,
    salt: str | None = None,
    served_as: str | None = None,
    *,
    greedy: bool = False,
) -> bytes:
    """The engine's body: allowed fields, `usage` always requested, the task's system prompt unless the caller sent a
    prompt.

    - `salt`: separates the orgs' prefix caches, so that no caller can time another org's prompts.
    - `served_as`: the model's name at an engine with several endpoints.
    - `greedy`: the engine's default temperature is 0.
    """
    allowed = route.fields
    fields: dict[str, Any] = {
        key: value for key, value in request.fields.items() if key in allowed and value is not None
    }
    fields |= {"model": served_as or request.model, **route.fixed}
    if route.form:
        options = {"stream": "true", "stream_include_usage": "true"} if request.stream else {}
        return multipart.build(fields | options)
    if request.n > 1 and is_greedy(fields, greedy):
        fields |= GREEDY_CHOICES
    if salt and not route.vocabulary:
        fields["cache_salt"] = salt
    if request.stream:
        fields["stream"] = True
        if route.usage_option:
            fields["stream_options"] = {"include_usage": True}
    if system_prompt and route in TALKING:
        conversation.instruct(route, fields, system_prompt)
    return orjson.dumps(fields)


def is_greedy(fields: dict[str, Any], by_default: bool) -> bool:
    """True if the engine would sample greedily."""
    temperature = fields.get("temperature")
    if temperature is None:
        return by_default
    return type(temperature) in (int, float) and 0 <= temperature < _GREEDY_BELOW


def too_deep(value: Any) -> bool:
    """True if containers are nested deeper than `MAX_DEPTH`; the cost is the number of containers."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _wrong(route: Route, fields: dict[str, Any]) -> Problem | None:
    model, prompt = fields.get("model"), fields.get(route.prompt)
    if model is None:
        return missing("model")
    if not isinstance(model, str) or not model:
        return ill_typed("model", "a non-empty string")
    if prompt is None:
        return missing(route.prompt)
    return (
        _wrong_values(route, fields)
        or _wrong_documents(route, fields)
        or (conversation.wrong(route, fields) if route in TALKING else None)
    )


def _wrong_values(route: Route, fields: dict[str, Any]) -> Problem | None:
    if not isinstance(fields.get("stream"), (bool, type(None))):
        return ill_typed("stream", "a boolean")
    for field in _OBJECTS:
        if not isinstance(fields.get(field), (dict, type(None))):
            return ill_typed(field, "an object")
    if fields.get("stream_options") and not fields.get("stream") and route.streams and route.usage_option:
        return Problem("invalid_value", "stream_options are for streams: set 'stream' too.", "stream_options")
    n = fields.get("n")
    if n is not None and (type(n) is not int or not 1 <= n <= MAX_CHOICES):
        return not_allowed("n", fields)
    for field, held in fields.items():
        if held and field in route.refused:
            return Problem("invalid_value", f"'{field}' is not taken here. {route.refused[field]}", field)
    for field, values in route.values.items():
        if fields.get(field) not in (None, *values):
            return not_allowed(field, fields, " or ".join(map(str, values)))
    return None


def _wrong_documents(route: Route, fields: dict[str, Any]) -> Problem | None:
    """The first problem with the prompts of a route that takes several."""
    if route.documents is None:
        return None
    documents = fields.get(route.documents)
    if documents is None:
        return missing(route.documents)
    if (sent := _prompts(documents)) > route.most_prompts:
        text = f"'{route.documents}' may hold at most {route.most_prompts:,} prompts; you sent {sent:,}."
        return Problem("invalid_value", text, route.documents)
    return None


def _remote(route: Route, fields: dict[str, Any], body: bytes | bytearray) -> Problem | None:
    """The refusal of a prompt that points to remote media; every such field ends in `url`, plain or escaped."""
    if b"url" not in body and b"\\u" not in body:
        return None
    prompts = [fields.get(name) for name in (route.prompt, route.documents) if name]
    return Problem("remote_media", param=route.documents or route.prompt) if points_away(prompts) else None


def _looping(fields: dict[str, Any]) -> Problem | None:
    field = looping(fields)
    if field is None:
        return None
    return not_allowed(field, fields, "made of schemas in which no '$ref' leads to itself")


def _request_from(
    route: Route, fields: dict[str, Any], body_bytes: int, media: bool = False
) -> InferenceRequest:
    options = fields.get("stream_options")
    limit = route.default_max_tokens
    for name in route.limits:
        if fields.get(name):
            limit = fields[name]
            break
    return InferenceRequest(
        model=fields["model"],
        fields=fields,
        body_bytes=body_bytes,
        stream=route.streams and fields.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        prompts=_prompts(fields.get(route.documents)) * route.texts if route.documents else 1,
        n=(fields.get("n") or 1) if "n" in route.fields else 1,
        max_tokens=limit if type(limit) is int and limit > 0 else None,
        generates=route.generates or (route.form and fields.get("stream") is True),
        audio=route.form,
        media=media,
    )


def _prompts(prompt: Any) -> int:
    """The number of prompts in a call: a list of strings or of token lists is a batch.

    A list that contains a number is a single prompt of tokens, as engines read such a list.
    """
    if not isinstance(prompt, list) or any(isinstance(each, int | float) for each in prompt):
        return 1
    return max(1, len(prompt))

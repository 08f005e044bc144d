"""OpenAPI document: describes the inference API from the route table.

`python -m pareta_agent.gateway.api.openapi` prints the document.

The document lists the fields that are checked and that may reach an engine; the engine checks the values.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from pareta_agent.contract.api_errors import CATALOGUE
from pareta_agent.gateway.api.routes import BATCH, COUNT_TOKENS, INFERENCE, MESSAGES, RESPONSES, Route

_DESCRIPTION: Final = (
    "What is looked at and what may reach an engine; the values themselves are the engine's to judge."
)
COMMITTED: Final = Path(__file__).with_name("openapi.json")
Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_OBJECT: Final[Schema] = {"type": "object"}
_TYPES: Final[dict[str, Schema]] = {
    **dict.fromkeys(
        ["temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"],
        _NUMBER,
    ),
    **dict.fromkeys(
        ["max_tokens", "max_completion_tokens", "max_output_tokens", "seed", "top_k", "top_n", "dimensions"],
        _COUNT,
    ),
    **dict.fromkeys(
        [
            "add_special_tokens",
            "return_token_strs",
            "echo",
            "ignore_eos",
            "parallel_tool_calls",
            "use_activation",
        ],
        _FLAG,
    ),
    **dict.fromkeys(["instructions", "suffix", "user", "language", "hotwords"], _TEXT),
    **dict.fromkeys(["logit_bias", "metadata", "response_format", "text", "reasoning", "thinking"], _OBJECT),
    "n": {"type": "integer", "minimum": 1, "maximum": 128},
    "tools": {"type": "array", "items": _OBJECT},
    "messages": {"type": "array", "minItems": 1, "items": _OBJECT},
    "documents": {"type": "array", "items": _TEXT},
    "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    "file": {"type": "string", "format": "binary"},
}
_TEXTS: Final[Schema] = {"oneOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}
_TURNS: Final[Schema] = {
    "oneOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": _OBJECT}]
}
_ANSWERS: Final[dict[str, list[str]]] = {
    "/v1/chat/completions": ["id", "object", "created", "model", "choices", "usage"],
    "/v1/chat/completions/batch": ["id", "object", "created", "model", "choices", "usage"],
    "/v1/completions": ["id", "object", "created", "model", "choices", "usage"],
    "/v1/responses": ["id", "object", "created_at", "model", "output", "status", "usage"],
    "/v1/messages": ["id", "type", "role", "content", "model", "stop_reason", "usage"],
    "/v1/messages/count_tokens": ["input_tokens"],
    "/v1/embeddings": ["object", "model", "data", "usage"],
    "/pooling": ["object", "model", "data", "usage"],
    "/v1/score": ["object", "model", "data", "usage"],
    "/v1/rerank": ["model", "results", "usage"],
    "/v1/audio/transcriptions": ["text"],
    "/tokenize": ["count", "max_model_len", "tokens"],
    "/detokenize": ["prompt"],
}
_ROW: Final[Schema] = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {"max_model_len": {"type": "integer", "description": "Left out until it is known."}},
}


def document() -> str:
    """The whole document, in the committed form."""
    routes = {route.path: route for route in INFERENCE.values()}
    paths: dict[str, Any] = {path: {"post": _operation(route)} for path, route in sorted(routes.items())}
    paths["/v1/models"] = {"get": _models()}
    paths["/v1/models/{id}"] = {"get": _model()}
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "Pareta inference", "version": "1", "description": _DESCRIPTION},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Model": {"type": "string", "minLength": 1},
                "Error": _error(),
                "MessageError": _message_error(),
            },
        },
    }
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _operation(route: Route) -> Schema:
    kind = "multipart/form-data" if route.form else "application/json"
    answers: Schema = {"application/json": {"schema": {"type": "object", "required": _ANSWERS[route.path]}}}
    if route.streams:
        answers["text/event-stream"] = {"schema": {"type": "object", "required": ["data"]}}  # each event
    return {
        "operationId": route.path.strip("/").replace("/", "_"),
        "requestBody": {"required": True, "content": {kind: {"schema": _request(route)}}},
        "responses": {
            "200": {
                "description": "The answer; a stream of events where one was asked for.",
                "content": answers,
            },
            **_refusals("MessageError" if route in (MESSAGES, COUNT_TOKENS) else "Error"),
        },
    }


def _request(route: Route) -> Schema:
    properties: Schema = {name: _TYPES.get(name, {}) for name in sorted(route.fields)}
    properties |= {name: {"enum": list(values)} for name, values in route.values.items()}
    properties["model"] = {"$ref": "#/components/schemas/Model"}
    required = {"model", route.prompt, *([route.documents] if route.documents else [])}
    if route is MESSAGES:
        required.add("max_tokens")
    if route is BATCH:
        properties["messages"] = {"type": "array", "minItems": 1, "items": _TYPES["messages"]}
    if route.streams:
        properties["stream"] = _FLAG
        if route.usage_option:
            properties["stream_options"] = {"type": "object", "properties": {"include_usage": _FLAG}}
    for name in required & properties.keys():
        if not properties[name]:
            properties[name] = _TURNS if route is RESPONSES else _TEXTS
    return {"type": "object", "required": sorted(required), "properties": properties}


def _model() -> Schema:
    found = {"description": "One of them.", "content": {"application/json": {"schema": _ROW}}}
    name = {"name": "id", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/Model"}}
    return {
        "operationId": "v1_model",
        "parameters": [name],
        "responses": {"200": found, **_refusals("Error", (401, 403, 404, 405, 503))},
    }


def _models() -> Schema:
    schema = {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": "array", "items": _ROW}},
    }
    found = {
        "description": "The endpoints that this key may call.",
        "content": {"application/json": {"schema": schema}},
    }
    return {"operationId": "v1_models", "responses": {"200": found, **_refusals("Error", (401, 405, 503))}}


def _refusals(shape: str, only: tuple[int, ...] = ()) -> Schema:
    """An entry for each status of the catalogue, with all codes."""
    codes: dict[int, list[str]] = {}
    for code, (status, _, _) in CATALOGUE.items():
        codes.setdefault(status, []).append(code)
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    return {
        str(status): {"description": ", ".join(sorted(names)), "content": content}
        for status, names in sorted(codes.items())
        if not only or status in only
    }


def _error() -> Schema:
    fields = {name: {"type": ["string", "null"]} for name in ("param",)} | dict.fromkeys(
        ("message", "type", "code"), _TEXT
    )
    error = {"type": "object", "required": sorted(fields), "properties": fields}
    return {
        "type": "object",
        "required": ["error", "detail"],
        "properties": {"error": error, "detail": _TEXT},
    }


def _message_error() -> Schema:
    shape = _error()
    return {
        **shape,
        "required": ["type", "error"],
        "properties": {**shape["properties"], "type": {"const": "error"}},
    }


if __name__ == "__main__":
    sys.stdout.write(document())

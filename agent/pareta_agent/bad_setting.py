"""Invalid setting: formats the refusal with layer, value, allowed values and nearest name. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from pydantic_core import ErrorDetails

from pareta_agent.settings import Settings

_KINDS: Final = {"integer": "a whole number", "number": "a finite number", "boolean": "on or off"}


def explain(detail: ErrorDetails, layer: str, known: Collection[str]) -> str:
    """One line on one error of `Settings`. `layer` is the layer of the value, `known` all keys."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key} in {layer}{nearest(key, known)}"
    if detail["type"] == "missing":
        return f"{key} is missing in {layer}; allowed: {allowed(detail['loc'])}"
    schema = _schema_of(detail["loc"])
    meant = nearest(str(detail["input"]), _words(schema))
    return f"{key} = {detail['input']!r} in {layer}; allowed: {allowed(detail['loc'])}{meant}"


def allowed(location: Sequence[int | str]) -> str:
    """The allowed values of a setting, in words."""
    schema = _schema_of(location)
    shape, unset = _not_null(schema)
    return _shape_in_words(shape) + (", or unset" if unset else "")


def nearest(word: str, known: Collection[str]) -> str:
    """A hint at the most similar known word; empty without a similar word."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _shape_in_words(shape: Mapping[str, Any]) -> str:
    if words := _words(shape):
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if "properties" in shape:
        return f"a table with the keys {', '.join(shape['properties'])}"
    if shape["type"] == "array":
        table = "$ref" in shape["items"]
        return (
            "a list of tables (`[[…]]` in the TOML file), or none" if table else "words with commas, or none"
        )
    if shape["type"] == "string":
        pattern = f" that matches {shape['pattern']}" if "pattern" in shape else ""
        return ("a path" if shape.get("format") == "path" else "a text") + pattern
    return _KINDS[shape["type"]] + _bounds(shape)


def _bounds(shape: Mapping[str, Any]) -> str:
    least, most, above = (shape.get(name) for name in ("minimum", "maximum", "exclusiveMinimum"))
    if least is not None and most is not None:
        return f" from {least:.0f} to {most:.0f}"
    if above is not None:
        return f" above {above:.0f}"
    return f" of {least:.0f} or more" if least is not None else ""


def _words(schema: Mapping[str, Any]) -> list[str]:
    return list(_not_null(schema)[0].get("enum", ()))


def _not_null(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema without null, and whether null is allowed."""
    choices = schema.get("anyOf", [schema])
    shapes = [choice for choice in choices if choice.get("type") != "null"]
    return shapes[0], len(shapes) < len(choices)


def _schema_of(location: Sequence[int | str]) -> Mapping[str, Any]:
    whole = Settings.model_json_schema()
    schema: Mapping[str, Any] = whole
    for part in location:
        schema = schema["items"] if isinstance(part, int) else schema["properties"][part]
        if "$ref" in schema:
            schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema

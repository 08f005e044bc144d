"""Constraints: the field that constrains a request's answer, and schemas with a `$ref` cycle. Pure.

The schemas of tools are not checked: the engine reads a cyclic schema as empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final
from urllib.parse import unquote

_IN_PLACE: Final = ("allOf", "anyOf", "oneOf")


def constraint_of(fields: Mapping[str, Any]) -> str | None:
    """The field that constrains the answer; `tools` if a call is required or a tool is strict."""
    if fields.get("structured_outputs") is not None:
        return "structured_outputs"
    for field, inner in (("response_format", "type"), ("text", "format"), ("output_config", "format")):
        held = fields.get(field)
        if isinstance(held, dict) and held.get(inner) not in (None, "text"):
            return field
    return "tools" if _forces_a_call(fields) else None


def _forces_a_call(fields: Mapping[str, Any]) -> bool:
    choice, tools = fields.get("tool_choice"), fields.get("tools")
    if not isinstance(tools, list):
        return False
    kind = choice.get("type") if isinstance(choice, dict) else choice
    strict = (_at(tool, *place) for tool in tools for place in (("strict",), ("function", "strict")))
    return kind not in (None, "auto", "none") or any(held is True for held in strict)


def looping(fields: Mapping[str, Any]) -> str | None:
    """The field with a schema that has a `$ref` cycle, which allows no value and makes engines fail."""
    return next((field for field, schema in _schemas(fields) if leads_to_itself(schema)), None)


def leads_to_itself(schema: Any) -> bool:
    """True if a `$ref` is reached again from the reference's own target before any property or item."""
    graph: dict[str, set[str]] = {}
    waiting = set(_refs(schema))
    while waiting:
        ref = waiting.pop()
        graph[ref] = set(_in_place(_target(schema, ref)))
        waiting |= graph[ref] - graph.keys()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return True
    return False


def _schemas(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "structured_outputs", _at(fields, "structured_outputs", "json")
    yield "response_format", _at(fields, "response_format", "json_schema", "schema")
    yield "text", _at(fields, "text", "format", "schema")
    yield "output_config", _at(fields, "output_config", "format", "schema")


def _at(held: Any, *names: str) -> Any:
    for name in names:
        held = held.get(name) if isinstance(held, dict) else None
    return held


def _refs(node: Any) -> Iterator[str]:
    """Every `$ref` in a schema."""
    if isinstance(node, dict) and isinstance(node.get("$ref"), str):
        yield node["$ref"]
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _refs(inner)


def _in_place(node: Any) -> Iterator[str]:
    """The `$ref`s that stand for the whole of a value."""
    if not isinstance(node, dict):
        return
    if isinstance(node.get("$ref"), str):
        yield node["$ref"]
    for name in _IN_PLACE:
        members = node.get(name)
        for member in members if isinstance(members, list) else ():
            yield from _in_place(member)


def _target(schema: Any, ref: str) -> Any:
    """The target of a pointer within the schema; None for any other pointer."""
    if not ref.startswith("#"):
        return None
    for part in unquote(ref[1:]).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        else:
            schema = schema.get(name) if isinstance(schema, dict) else None
    return schema

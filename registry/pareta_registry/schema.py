"""Catalog schema: generates the JSON Schema of catalog documents from the models that validate documents."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from pareta_registry.catalog import Model, Task
from pareta_registry.engine_flags import ALLOWED, Kind

SCHEMA_NAME = "catalog.schema.json"
_TYPES: dict[Kind, dict[str, Any]] = {
    "flag": {"type": "boolean"},
    "int": {"type": "integer", "minimum": 0},
    "number": {"type": "number", "minimum": 0},
    "text": {"type": "string", "pattern": "^[A-Za-z0-9_.][A-Za-z0-9_.-]*$"},
    "json": {"type": "object"},
}


def catalog_schema() -> dict[str, Any]:
    """The schema of one document: a task or a model, by `kind`. Engine settings are the settings of the allowlist."""
    document = Annotated[Task | Model, Field(discriminator="kind")]
    schema = TypeAdapter(document).json_schema()
    settings = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _TYPES[kind] for name, kind in sorted(ALLOWED.items())},
    }
    for name in ("Alias", "Model"):
        schema["$defs"][name]["properties"]["engine"] = settings
    for name in ("Task", "Model"):
        schema["$defs"][name]["required"] = ["kind", *schema["$defs"][name]["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pareta catalog document",
    } | schema

"""Catalog template: writes the files of `pareta-registry init`: a valid catalog and the JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

from pareta_registry.importers.staging import refuse_in_use
from pareta_registry.schema import SCHEMA_NAME, catalog_schema

SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_NAME}"


def write(root: Path) -> list[Path]:
    """Writes the files into the new or empty directory `root` and returns the paths."""
    refuse_in_use(root)
    root.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sorted(Path(__file__).parents[1].joinpath("demo").glob("*.yaml")):
        target = root / source.name
        target.write_text(f"{SCHEMA_LINE}\n{source.read_text()}")
        written.append(target)
    schema = root / SCHEMA_NAME
    schema.write_text(json.dumps(catalog_schema(), indent=2) + "\n")
    return [*written, schema]

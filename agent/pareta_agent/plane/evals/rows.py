"""Eval rows: parse JSON Lines, check rows, and build the prompt for each row. Pure."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pareta_registry.catalog import Task

MOST_ROWS: Final = 10_000
MOST_ROW_BYTES: Final = 256 * 2**10
PLACE: Final = "{input}"


@dataclass(frozen=True, slots=True)
class Blob:
    """A document that belongs to a row's `field`."""

    field: str
    mime: str
    content: bytes


@dataclass(frozen=True, slots=True)
class BadRows:
    """The reason for a refused set; `line` counts from 1."""

    line: int
    reason: str


def read(text: bytes) -> list[dict[str, Any]] | BadRows:
    """Returns the rows of a JSON Lines file: objects with `input` and `expected`; blank lines are skipped."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if reason := _wrong(line, row := _parsed(line)):
            return BadRows(number, reason)
        rows.append(row)
        if len(rows) > MOST_ROWS:
            return BadRows(number, f"more than {MOST_ROWS} rows; split the rows into several sets")
    return rows or BadRows(1, "there are no rows")


def messages(task: Task, row: dict[str, Any], blobs: list[Blob]) -> list[dict[str, Any]]:
    """Returns the prompt: the task's system prompt, the row's input in the task's scaffold, then documents."""
    given = row["input"]
    text = given if isinstance(given, str) else orjson.dumps(given).decode()
    scaffold = task.prompt_scaffold or PLACE
    text = scaffold.replace(PLACE, text) if PLACE in scaffold else f"{scaffold}\n{text}"
    content: str | list[dict[str, Any]] = text
    if blobs:
        content = [{"type": "text", "text": text}, *map(_part, blobs)]
    system = [{"role": "system", "content": task.system_prompt}] if task.system_prompt else []
    return [*system, {"role": "user", "content": content}]


def readable(mime: str) -> bool:
    """True when a model can read a document of this kind."""
    return mime.startswith(("image/", "text/")) or mime == "application/json"


def _part(blob: Blob) -> dict[str, Any]:
    if blob.mime.startswith("image/"):
        url = f"data:{blob.mime};base64,{b64encode(blob.content).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "text", "text": f"{blob.field}:\n{blob.content.decode(errors='replace')}"}


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _wrong(line: bytes, row: Any) -> str | None:
    if len(line) > MOST_ROW_BYTES:
        return f"the row is larger than {MOST_ROW_BYTES} bytes"
    if not isinstance(row, dict):
        return "not a JSON object"
    if row.get("input") in (None, "", [], {}):
        return "the field 'input' is missing or empty"
    return "the field 'expected' is missing" if row.get("expected") is None else None

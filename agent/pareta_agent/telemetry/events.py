"""Event bus: passes past-tense events with fields to every listener.

The terminal, `serve --json`, the log and the metrics are listeners. Components that emit depend on no listener.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PHASES = (
    "install",
    "check",
    "resolve",
    "plan",
    "fetch",
    "verify",
    "spawn",
    "import",
    "load",
    "profile",
    "compile",
    "capture",
    "probe",
)


@dataclass(frozen=True, slots=True)
class Phase:
    """Progress of a cold start: `phase` is in `PHASES`, `done` and `total` are in `unit` (bytes, shards), or None."""

    endpoint: str
    phase: str
    state: Literal["started", "progress", "done", "failed"]
    seconds: float | None = None
    done: int | None = None
    total: int | None = None
    unit: str = "bytes"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Any other event: `name` is past tense and snake_case, `fields` are scalars."""

    name: str
    level: Literal["debug", "info", "warning", "error"] = "info"
    fields: Mapping[str, Any] = field(default_factory=dict)


Emit = Callable[[Phase | Event], None]


class Bus:
    """Calls the listeners in order on the caller's thread. A listener that raises is a bug."""

    def __init__(self) -> None:
        self._listeners: list[Emit] = []

    def listen(self, listener: Emit) -> None:
        self._listeners.append(listener)

    def __call__(self, event: Phase | Event) -> None:
        for listener in self._listeners:
            listener(event)

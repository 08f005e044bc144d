"""What would change if a plan replaced the one that runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from pareta_agent.planning.plan import Plan

_DERIVED: Final = frozenset({"footprint", "kv_tokens"})


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs, as text."""

    field: str
    running: str
    planned: str


def diff(running: Plan, planned: Plan) -> tuple[Change, ...]:
    """Every knob that differs, in the plan's own order; empty when the engine may stay as it is."""
    pairs = [
        (field.name, getattr(running, field.name), getattr(planned, field.name))
        for field in fields(Plan)
        if field.name not in _DERIVED
    ]
    return tuple(Change(name, str(old), str(new)) for name, old, new in pairs if old != new)

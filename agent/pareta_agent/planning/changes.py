"""Plan diff: compares a running plan with a new plan. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pareta_agent.planning.plan import Plan

_DERIVED: Final = frozenset({"footprint", "kv_tokens", "kernel", "workaround"})


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A field with its two different values, as text."""

    field: str
    running: str
    planned: str


def diff(running: Mapping[str, Any], planned: Plan) -> tuple[PlanChange, ...]:
    """Every different field, in the plan's order; empty if the engine needs no restart.

    `running` is a plan from JSON. Fields that `running` lacks are not compared.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(asdict(planned)))
    return tuple(
        PlanChange(name, str(running[name]), str(value))
        for name, value in wanted.items()
        if name in running and name not in _DERIVED and running[name] != value
    )

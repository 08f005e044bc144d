"""What would change if a plan replaced the one that runs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pareta_agent.planning.plan import Plan

_DERIVED: Final = frozenset({"footprint", "kv_tokens", "kernel", "workaround"})


@dataclass(frozen=True, slots=True)
class PlanChange:
    """One field that differs, as text."""

    field: str
    running: str
    planned: str


def diff(running: Mapping[str, Any], planned: Plan) -> tuple[PlanChange, ...]:
    """Every knob that differs, in the plan's own order; empty when the engine may stay as it is.

    `running` is a plan as JSON gives it back; fields that it does not hold are not compared.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(asdict(planned)))
    return tuple(
        PlanChange(name, str(running[name]), str(value))
        for name, value in wanted.items()
        if name in running and name not in _DERIVED and running[name] != value
    )

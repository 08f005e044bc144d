"""How long until ready, from how long it took before: pure, and honest about a first time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from pareta_agent.telemetry.events import PHASES

# Seconds on two cores with a small model: what is assumed until this node has starts of its own.
PRIOR: Mapping[str, float] = {"spawn": 0.1, "import": 25.0, "load": 3.0, "profile": 3.0, "probe": 4.0}


def remaining_s(past: Sequence[Mapping[str, float]], spent: Mapping[str, float], current: str | None) -> int:
    """Whole seconds until ready, at least 1: the rest of the current phase and all later ones, each at its
    median over `past` starts."""
    usual = {
        phase: statistics.median(start.get(phase, 0.0) for start in past) if past else PRIOR.get(phase, 0.0)
        for phase in PHASES
    }
    at = PHASES.index(current) if current in PHASES else 0
    rest_s = max(0.0, usual[PHASES[at]] - (spent.get(PHASES[at], 0.0) if current else 0.0))
    return max(1, math.ceil(rest_s + sum(usual[phase] for phase in PHASES[at + 1 :])))

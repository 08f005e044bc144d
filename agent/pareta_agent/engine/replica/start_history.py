"""Start history: stores the durations of the last starts and estimates the time until the next start is ready.

The file outlives the agent, and so do the estimates.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pareta_agent.engine.replica.start_phases import Cause, ColdStartReport
from pareta_agent.telemetry.events import PHASES

_KEPT = 50
# Seconds on two cores with a small model: assumed until this node has measured starts.
PRIOR: Mapping[str, float] = {"spawn": 0.1, "import": 25.0, "load": 3.0, "profile": 3.0, "probe": 4.0}


@dataclass(frozen=True, slots=True)
class PastStart:
    """A start that became ready; `phases` in seconds."""

    cause: Cause
    total_s: float
    phases: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """Times of the starts of one cause, over all endpoints: nearest-rank percentiles."""

    cause: Cause
    count: int
    p50_s: float
    p95_s: float


class History:
    """The last starts of each endpoint. A file that is damaged or of another version starts afresh."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._starts: dict[str, list[PastStart]] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            kept = json.loads(path.read_text()) if path else {}
            self._starts = {name: [PastStart(**entry) for entry in entries] for name, entries in kept.items()}

    def add(self, report: ColdStartReport) -> None:
        """Stores a start that became ready; failed starts predict nothing."""
        if report.outcome != "ready":
            return
        started = PastStart(report.cause, report.total_s, dict(report.phases))
        self._starts[report.endpoint] = [*self._starts.get(report.endpoint, []), started][-_KEPT:]
        if self._path:
            kept = {name: [asdict(each) for each in starts] for name, starts in self._starts.items()}
            with contextlib.suppress(OSError):  # an expectation is not worth a failure
                self._path.write_text(json.dumps(kept))

    def phases(self, endpoint: str, cause: Cause | None = None) -> Sequence[Mapping[str, float]]:
        """The phases of this endpoint's starts: starts of the same cause where any exist, else all similar starts."""
        starts = self._starts.get(endpoint, [])
        alike = [each.phases for each in starts if each.cause == cause]
        return alike or [each.phases for each in starts if "resume" not in (cause, each.cause)]

    def summaries(self) -> tuple[Summary, ...]:
        """A summary for each cause that occurred."""
        by_cause: dict[Cause, list[float]] = {}
        for starts in self._starts.values():
            for each in starts:
                by_cause.setdefault(each.cause, []).append(each.total_s)
        return tuple(
            Summary(cause, len(took), _percentile(took, 0.5), _percentile(took, 0.95))
            for cause, took in sorted(by_cause.items())
        )


def remaining_s(past: Sequence[Mapping[str, float]], spent: Mapping[str, float], current: str | None) -> int:
    """Whole seconds until ready, at least 1: the rest of the current phase and all later phases, by `past` medians."""
    usual = {
        phase: statistics.median(start.get(phase, 0.0) for start in past) if past else PRIOR.get(phase, 0.0)
        for phase in PHASES
    }
    at = PHASES.index(current) if current in PHASES else 0
    rest_s = max(0.0, usual[PHASES[at]] - (spent.get(PHASES[at], 0.0) if current else 0.0))
    return max(1, math.ceil(rest_s + sum(usual[phase] for phase in PHASES[at + 1 :])))


def _percentile(values: list[float], ratio: float) -> float:
    return round(sorted(values)[math.ceil(ratio * len(values)) - 1], 3)

"""Status timeline: an endpoint's statuses over a window, from the moments of change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pareta_agent.plane.metrics.window import Window

# Stopped by the owner, or asleep without calls: not counted as required time.
_NOT_DUE = ("stopped", "cold")


@dataclass(frozen=True, slots=True)
class StatusChange:
    status: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Stretch:
    status: str
    since_s: float
    until_s: float

    @property
    def seconds(self) -> float:
        return self.until_s - self.since_s


def stretches(changes: Sequence[StatusChange], window: Window, now_s: float) -> list[Stretch]:
    """Returns the statuses in the window, oldest first; nothing before the first change, nor in the future."""
    ordered = sorted(changes, key=lambda change: change.since_s)
    ends = [*ordered[1:], StatusChange("", now_s)]
    cut = [
        Stretch(change.status, max(change.since_s, window.since_s), min(end.since_s, window.until_s))
        for change, end in zip(ordered, ends, strict=False)
    ]
    return [stretch for stretch in cut if stretch.seconds > 0]


def seconds_by_status(found: Sequence[Stretch]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for stretch in found:
        spent[stretch.status] = spent.get(stretch.status, 0.0) + stretch.seconds
    return spent


def uptime_ratio(spent: dict[str, float]) -> float | None:
    """Returns live time over required time; None without required time."""
    due_s = sum(seconds for status, seconds in spent.items() if status not in _NOT_DUE)
    return spent.get("live", 0.0) / due_s if due_s else None


def outages(found: Sequence[Stretch]) -> list[Stretch]:
    """Returns the stretches that were neither live nor excused, after the first live stretch."""
    since = next((at for at, stretch in enumerate(found) if stretch.status == "live"), len(found))
    return [stretch for stretch in found[since:] if stretch.status not in ("live", *_NOT_DUE)]

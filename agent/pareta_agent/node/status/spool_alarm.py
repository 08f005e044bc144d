"""Says when the spool runs out of room, and when it has room again; each change once."""

from __future__ import annotations

from typing import Literal

from pareta_agent.meter.disk_budget import ALARM_RATIO
from pareta_agent.meter.settings import SpoolStats
from pareta_agent.telemetry.events import Emit, Event

CALM_RATIO = ALARM_RATIO - 0.05  # so that a spool around the mark does not repeat itself
Level = Literal["roomy", "nearly_full", "full"]


def level(before: Level, stats: SpoolStats, can_admit: bool) -> Level:
    """`full`: nothing may be admitted any more, for want of room in the spool or on its disk. Pure."""
    if not can_admit:
        return "full"
    mark = ALARM_RATIO if before == "roomy" else CALM_RATIO
    return "nearly_full" if stats.used_ratio >= mark else "roomy"


class SpoolAlarm:
    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._level: Level = "roomy"

    def look(self, stats: SpoolStats, can_admit: bool) -> None:
        """A failed disk is the spool's own to tell: the node ends of it."""
        if stats.failed:
            return
        now = level(self._level, stats, can_admit)
        if now != self._level:
            fields = {"used_ratio": round(stats.used_ratio, 3), "unacked": stats.unacked}
            self._emit(_event(now, fields))
        self._level = now


def _event(now: Level, fields: dict[str, float]) -> Event:
    if now == "full":
        return Event("spool_full", "error", fields)
    if now == "nearly_full":
        return Event("spool_nearly_full", "warning", fields)
    return Event("spool_has_room", "info", fields)

"""Spool alarm: emits an event when the spool runs out of room and when room returns, once a change."""

from __future__ import annotations

from typing import Literal

from pareta_agent.meter.disk_budget import ALARM_RATIO
from pareta_agent.meter.settings import SpoolStats
from pareta_agent.telemetry.events import Emit, Event

CALM_RATIO = ALARM_RATIO - 0.05  # hysteresis: no repeated events around the mark
Level = Literal["roomy", "nearly_full", "full"]


def level(before: Level, stats: SpoolStats, can_admit: bool) -> Level:
    """`full`: no admission, because the spool or its disk has no room. Pure."""
    if not can_admit:
        return "full"
    mark = ALARM_RATIO if before == "roomy" else CALM_RATIO
    return "nearly_full" if stats.used_ratio >= mark else "roomy"


class SpoolAlarm:
    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._level: Level = "roomy"

    def look(self, stats: SpoolStats, can_admit: bool) -> None:
        """Ignores a failed disk: the spool reports the failure and the node ends."""
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

"""When the spool's room is worth a word."""

from __future__ import annotations

from dataclasses import replace

from pareta_agent.meter.settings import SpoolStats
from pareta_agent.node.status.spool_alarm import SpoolAlarm

STATS = SpoolStats(1, 1, "", 0, 1, 1, 0, 1, 0, 1, 0.5, False)


def test_each_change_is_said_once() -> None:
    """80 % warns, a shut door is an error, and a spool around the mark does not repeat itself."""
    told: list[str] = []
    alarm = SpoolAlarm(lambda event: told.append(event.name))
    for ratio, can_admit in (
        (0.5, True),
        (0.81, True),
        (0.79, True),
        (0.82, True),
        (0.96, False),
        (0.96, False),
    ):
        alarm.look(replace(STATS, used_ratio=ratio), can_admit)
    assert told == ["spool_nearly_full", "spool_full"]
    for ratio in (0.9, 0.76, 0.74, 0.79):
        alarm.look(replace(STATS, used_ratio=ratio), True)
    assert told[2:] == ["spool_nearly_full", "spool_has_room"]


def test_a_failed_disk_is_no_matter_of_room() -> None:
    """The spool itself says so, and the node ends."""
    told: list[object] = []
    SpoolAlarm(told.append).look(replace(STATS, failed=True), False)
    assert told == []

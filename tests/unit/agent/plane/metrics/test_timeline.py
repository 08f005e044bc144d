"""Status timeline: an endpoint's statuses over a window, from the moments of change."""

from __future__ import annotations

import pytest

from pareta_agent.plane.metrics.timeline import (
    StatusChange,
    Stretch,
    outages,
    seconds_by_status,
    stretches,
    uptime_ratio,
)
from pareta_agent.plane.metrics.window import Window

DAY = [
    StatusChange("deploying", 100),
    StatusChange("live", 110),
    StatusChange("lost", 150),
    StatusChange("live", 160),
    StatusChange("stopped", 180),
]


def test_stretches_are_cut_to_the_window() -> None:
    """The status before the first change is unknown, and there is none after now."""
    assert stretches(DAY, Window(0, 1000), 200) == [
        Stretch("deploying", 100, 110),
        Stretch("live", 110, 150),
        Stretch("lost", 150, 160),
        Stretch("live", 160, 180),
        Stretch("stopped", 180, 200),
    ]
    assert stretches(DAY, Window(120, 155), 200) == [Stretch("live", 120, 150), Stretch("lost", 150, 155)]
    assert stretches([], Window(0, 1000), 200) == []


@pytest.mark.parametrize(
    ("window", "ratio"),
    [
        (Window(0, 1000), 60 / 80),
        (Window(110, 150), 1.0),
        (Window(150, 160), 0.0),
        (Window(180, 200), None),
        (Window(0, 50), None),
    ],
)
def test_uptime_counts_what_was_due(window: Window, ratio: float | None) -> None:
    """A stop by the owner is no downtime; without required time there is no ratio."""
    assert uptime_ratio(seconds_by_status(stretches(DAY, window, 200))) == ratio


def test_a_first_start_is_no_outage() -> None:
    """Only a failure after the first live stretch is an outage."""
    assert outages(stretches(DAY, Window(0, 1000), 200)) == [Stretch("lost", 150, 160)]


def test_changes_told_late_are_put_in_order() -> None:
    """A loss is recorded when the node returns, with the moment of the last heartbeat."""
    late = [StatusChange("live", 10), StatusChange("live", 40), StatusChange("lost", 20)]
    assert seconds_by_status(stretches(late, Window(0, 100), 50)) == {"live": 20, "lost": 20}

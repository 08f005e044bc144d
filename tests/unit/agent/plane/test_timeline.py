"""How an endpoint stood over a window, from the moments at which that changed."""

from __future__ import annotations

import pytest

from pareta_agent.plane.timeline import (
    StatusChange,
    Stretch,
    outages,
    seconds_by_status,
    stretches,
    uptime_ratio,
)
from pareta_agent.plane.window import Window

DAY = [
    StatusChange("deploying", 100),
    StatusChange("live", 110),
    StatusChange("lost", 150),
    StatusChange("live", 160),
    StatusChange("stopped", 180),
]


def test_stretches_are_cut_to_the_window() -> None:
    """What was before the first change is unknown, what comes after now is not there."""
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
    """A stop by its owner is no downtime; with nothing due there is no ratio."""
    assert uptime_ratio(seconds_by_status(stretches(DAY, window, 200))) == ratio


def test_a_first_start_is_no_outage() -> None:
    """What broke after it was live once is."""
    assert outages(stretches(DAY, Window(0, 1000), 200)) == [Stretch("lost", 150, 160)]


def test_changes_told_late_are_put_in_order() -> None:
    """A loss is noted when the node comes back, with the moment at which it was last heard."""
    late = [StatusChange("live", 10), StatusChange("live", 40), StatusChange("lost", 20)]
    assert seconds_by_status(stretches(late, Window(0, 100), 50)) == {"live": 20, "lost": 20}

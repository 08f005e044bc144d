"""The log's lines: logfmt, one a line, from the wanted level upward."""

from __future__ import annotations

import io

import pytest

from pareta_agent.telemetry.events import Event, Phase
from pareta_agent.telemetry.log import listener


def logged(*events: Event | Phase, level: str = "info") -> list[str]:
    """What follows the timestamp of each line."""
    stream = io.StringIO()
    write = listener(level, stream)
    for event in events:
        write(event)
    lines = [line.split(" ", 1) for line in stream.getvalue().splitlines()]
    assert all(stamp.startswith("timestamp=20") and stamp.endswith("Z") for stamp, _ in lines)
    return [rest for _, rest in lines]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"count": 3, "gone": None}, "count=3"),
        ({"warm": True}, "warm=true"),
        ({"reason": "two words"}, 'reason="two words"'),
        ({"reason": 'a "b"=\\c'}, 'reason="a \\"b\\"=\\\\c"'),
        ({"reason": "one\ntwo"}, 'reason="one | two"'),
        ({"level": 7}, "level_=7"),
    ],
)
def test_a_field_is_a_word(fields: dict[str, object], said: str) -> None:
    """What is unknown is left out, and nothing breaks the line or shadows its own fields."""
    assert logged(Event("began", "warning", fields)) == [f"level=warning event=began {said}"]


def test_phases_begin_and_end_and_progress_is_left_out() -> None:
    """A load of an hour is two lines."""
    told = [
        Phase("ep", "load", "started"),
        Phase("ep", "load", "progress"),
        Phase("ep", "load", "done", 1.23456),
    ]
    assert logged(*told) == [
        "level=info event=phase_started endpoint=ep phase=load",
        "level=info event=phase_done endpoint=ep phase=load seconds=1.235",
    ]


def test_what_is_below_the_level_is_not_said() -> None:
    events = [Event("a", "debug"), Event("b"), Event("c", "warning"), Event("d", "error")]
    assert logged(*events, level="warning") == ["level=warning event=c", "level=error event=d"]

"""The transition table is total, and the document shows it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_agent.engine.lifecycle import TABLE, Event, IllegalEvent, Refusal, State, advance, mermaid

ARCHITECTURE = Path(__file__).resolve().parents[4] / "ARCHITECTURE.md"


def test_table_is_total() -> None:
    """Every state answers every event."""
    assert set(TABLE) == {(state, event) for state in State for event in Event}


def test_the_good_life() -> None:
    """Begin, fetch, pass, sleep, wake, pass, stop, drain, gone."""
    state = State.PENDING
    seen = []
    night = (Event.SLEEP, Event.WAKE, Event.PASSED)
    for event in (Event.BEGIN, Event.FETCHED, Event.PASSED, *night, Event.STOP, Event.DRAINED, Event.GONE):
        state = advance(state, event) or state
        seen.append(state)
    assert list(dict.fromkeys(seen)) == list(State)[1:]
    assert seen.count(State.READY) == 2


def test_ended_hears_nothing() -> None:
    """After the end every event is late, but a second begin is a bug."""
    outcomes = {event: TABLE[State.ENDED, event] for event in Event}
    assert outcomes.pop(Event.BEGIN) is Refusal.ILLEGAL
    assert set(outcomes.values()) == {Refusal.LATE}


def test_illegal_event_names_itself() -> None:
    """A canary cannot pass before there is an engine."""
    with pytest.raises(IllegalEvent, match="passed in fetching"):
        advance(State.FETCHING, Event.PASSED)


def test_diagram_in_the_architecture_is_the_table() -> None:
    """ARCHITECTURE.md holds the generated diagram, word for word."""
    assert mermaid() in ARCHITECTURE.read_text()

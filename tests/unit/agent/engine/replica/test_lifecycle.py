"""The transition table is total, and the document shows it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_agent.engine.replica.lifecycle import (
    TABLE,
    EventRefusal,
    IllegalEvent,
    ReplicaEvent,
    ReplicaState,
    advance,
    mermaid,
)

ARCHITECTURE = Path(__file__).resolve().parents[5] / "ARCHITECTURE.md"


def test_table_is_total() -> None:
    """Every state answers every event."""
    assert set(TABLE) == {(state, event) for state in ReplicaState for event in ReplicaEvent}


def test_the_good_life() -> None:
    """Begin, fetch, pass, sleep, wake, pass, stop, drain, gone."""
    state = ReplicaState.PENDING
    seen = []
    night = (ReplicaEvent.SLEEP, ReplicaEvent.WAKE, ReplicaEvent.PASSED)
    for event in (
        ReplicaEvent.BEGIN,
        ReplicaEvent.FETCHED,
        ReplicaEvent.PASSED,
        *night,
        ReplicaEvent.STOP,
        ReplicaEvent.DRAINED,
        ReplicaEvent.GONE,
    ):
        state = advance(state, event) or state
        seen.append(state)
    assert list(dict.fromkeys(seen)) == list(ReplicaState)[1:]
    assert seen.count(ReplicaState.READY) == 2


def test_ended_hears_nothing() -> None:
    """After the end every event is late, but a second begin is a bug."""
    outcomes = {event: TABLE[ReplicaState.ENDED, event] for event in ReplicaEvent}
    assert outcomes.pop(ReplicaEvent.BEGIN) is EventRefusal.ILLEGAL
    assert set(outcomes.values()) == {EventRefusal.LATE}


def test_illegal_event_names_itself() -> None:
    """A canary cannot pass before there is an engine."""
    with pytest.raises(IllegalEvent, match="passed in fetching"):
        advance(ReplicaState.FETCHING, ReplicaEvent.PASSED)


def test_diagram_in_the_architecture_is_the_table() -> None:
    """ARCHITECTURE.md holds the generated diagram, word for word."""
    assert mermaid() in ARCHITECTURE.read_text()

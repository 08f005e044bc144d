"""The lifecycle under any order of events: no illegal state, no resurrection, always an end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pareta_agent.engine.replica.lifecycle import (
    TABLE,
    EventRefusal,
    IllegalEvent,
    ReplicaEvent,
    ReplicaState,
    advance,
)

AWAKE_OR_NOT = (ReplicaState.READY, ReplicaState.ASLEEP, ReplicaState.WAKING)
ORDER = [state for state in ReplicaState if state not in AWAKE_OR_NOT[1:]]
events = st.lists(st.sampled_from(ReplicaEvent), max_size=40)


def live(sequence: list[ReplicaEvent]) -> list[ReplicaState]:
    """The states that are passed through; illegal events are refused and change nothing."""
    states = [ReplicaState.PENDING]
    for event in sequence:
        try:
            states.append(advance(states[-1], event) or states[-1])
        except IllegalEvent:
            states.append(states[-1])
    return states


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_no_sequence_moves_backwards(sequence: list[ReplicaEvent]) -> None:
    """But for sleep and waking states only ever advance, so nothing is resurrected and ENDED stays ENDED."""
    states = live(sequence)
    places = [ORDER.index(ReplicaState.READY if state in AWAKE_OR_NOT else state) for state in states]
    assert places == sorted(places)


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_what_slept_serves_only_after_waking(sequence: list[ReplicaEvent]) -> None:
    """And it sleeps again only after it was proven: the three are passed through in one direction."""
    moves = list(pairwise(live(sequence)))
    assert (ReplicaState.ASLEEP, ReplicaState.READY) not in moves
    assert (ReplicaState.WAKING, ReplicaState.ASLEEP) not in moves
    assert (ReplicaState.READY, ReplicaState.WAKING) not in moves


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_every_life_can_be_ended_by_those_who_may(sequence: list[ReplicaEvent]) -> None:
    """Whatever came before, a kill and the confirmation that all is gone lead to the end."""
    state = live(sequence)[-1]
    for event in (ReplicaEvent.KILL, ReplicaEvent.GONE):
        if TABLE[state, event] is not EventRefusal.ILLEGAL:
            state = advance(state, event) or state
    assert state is ReplicaState.ENDED


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_wishes_of_others_are_never_illegal(sequence: list[ReplicaEvent]) -> None:
    """Stop and kill may be posted at any moment by anybody: they move, or they are late."""
    state = live(sequence)[-1]
    assert EventRefusal.ILLEGAL not in (TABLE[state, ReplicaEvent.STOP], TABLE[state, ReplicaEvent.KILL])

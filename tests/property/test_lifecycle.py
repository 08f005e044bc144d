"""The lifecycle under any order of events: no illegal state, no resurrection, always an end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pareta_agent.engine.lifecycle import TABLE, Event, IllegalEvent, Refusal, State, advance

AWAKE_OR_NOT = (State.READY, State.ASLEEP, State.WAKING)
ORDER = [state for state in State if state not in AWAKE_OR_NOT[1:]]
events = st.lists(st.sampled_from(Event), max_size=40)


def live(sequence: list[Event]) -> list[State]:
    """The states that are passed through; illegal events are refused and change nothing."""
    states = [State.PENDING]
    for event in sequence:
        try:
            states.append(advance(states[-1], event) or states[-1])
        except IllegalEvent:
            states.append(states[-1])
    return states


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_no_sequence_moves_backwards(sequence: list[Event]) -> None:
    """But for sleep and waking states only ever advance, so nothing is resurrected and ENDED stays ENDED."""
    states = live(sequence)
    places = [ORDER.index(State.READY if state in AWAKE_OR_NOT else state) for state in states]
    assert places == sorted(places)


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_what_slept_serves_only_after_waking(sequence: list[Event]) -> None:
    """And it sleeps again only after it was proven: the three are passed through in one direction."""
    moves = list(pairwise(live(sequence)))
    assert (State.ASLEEP, State.READY) not in moves
    assert (State.WAKING, State.ASLEEP) not in moves
    assert (State.READY, State.WAKING) not in moves


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_every_life_can_be_ended_by_those_who_may(sequence: list[Event]) -> None:
    """Whatever came before, a kill and the confirmation that all is gone lead to the end."""
    state = live(sequence)[-1]
    for event in (Event.KILL, Event.GONE):
        if TABLE[state, event] is not Refusal.ILLEGAL:
            state = advance(state, event) or state
    assert state is State.ENDED


@settings(deadline=None)  # a busy machine is not a failure
@given(events)
def test_wishes_of_others_are_never_illegal(sequence: list[Event]) -> None:
    """Stop and kill may be posted at any moment by anybody: they move, or they are late."""
    state = live(sequence)[-1]
    assert Refusal.ILLEGAL not in (TABLE[state, Event.STOP], TABLE[state, Event.KILL])

"""What may happen to a replica, as a table: every state crossed with every event is a move, late or illegal.

A replica is used once; a restart is a new generation, waking up is not. The table drives; nothing here awaits, logs
or reads a clock. Why an event was sent, and where the time went, is not its business.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    PENDING = "pending"
    FETCHING = "fetching"
    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"
    WAKING = "waking"
    DRAINING = "draining"
    STOPPING = "stopping"
    ENDED = "ended"


class Event(Enum):
    BEGIN = "begin"
    FETCHED = "fetched"
    PASSED = "passed"
    FAILED = "failed"
    EXITED = "exited"
    HUNG = "hung"
    SLEEP = "sleep"
    WAKE = "wake"
    STOP = "stop"
    KILL = "kill"
    DRAINED = "drained"
    GONE = "gone"


class Refusal(Enum):
    """Why an event is no move: `LATE` lost a race and is ignored, `ILLEGAL` can only come from a bug."""

    LATE = "late"
    ILLEGAL = "illegal"


class IllegalEvent(Exception):
    """A broken promise of the owner task: this event cannot happen in this state."""


_S, _E = State, Event
_MOVES: Mapping[State, Mapping[Event, State]] = {
    _S.PENDING: {_E.BEGIN: _S.FETCHING, _E.STOP: _S.ENDED, _E.KILL: _S.ENDED},
    _S.FETCHING: {
        _E.FETCHED: _S.STARTING,
        _E.FAILED: _S.ENDED,
        _E.STOP: _S.ENDED,
        _E.KILL: _S.ENDED,
    },
    _S.STARTING: {
        _E.PASSED: _S.READY,
        _E.SLEEP: _S.ASLEEP,
        _E.FAILED: _S.STOPPING,
        _E.EXITED: _S.STOPPING,
        _E.HUNG: _S.STOPPING,
        _E.STOP: _S.STOPPING,
        _E.KILL: _S.STOPPING,
    },
    _S.READY: {
        _E.FAILED: _S.STOPPING,
        _E.EXITED: _S.STOPPING,
        _E.HUNG: _S.STOPPING,
        _E.SLEEP: _S.ASLEEP,
        _E.STOP: _S.DRAINING,
        _E.KILL: _S.STOPPING,
    },
    _S.ASLEEP: {
        _E.WAKE: _S.WAKING,
        _E.FAILED: _S.STOPPING,
        _E.EXITED: _S.STOPPING,
        _E.STOP: _S.STOPPING,
        _E.KILL: _S.STOPPING,
    },
    _S.WAKING: {
        _E.PASSED: _S.READY,
        _E.FAILED: _S.STOPPING,
        _E.EXITED: _S.STOPPING,
        _E.HUNG: _S.STOPPING,
        _E.STOP: _S.STOPPING,
        _E.KILL: _S.STOPPING,
    },
    _S.DRAINING: {
        _E.DRAINED: _S.STOPPING,
        _E.FAILED: _S.STOPPING,
        _E.EXITED: _S.STOPPING,
        _E.HUNG: _S.STOPPING,
        _E.KILL: _S.STOPPING,
    },
    _S.STOPPING: {_E.GONE: _S.ENDED},
    _S.ENDED: {},
}
# What can still be on its way when the state has moved on: verdicts of watchers, and wishes of others.
_LATE: Mapping[State, frozenset[Event]] = {
    _S.PENDING: frozenset(),
    _S.FETCHING: frozenset(),
    _S.STARTING: frozenset(),
    _S.READY: frozenset(),
    _S.ASLEEP: frozenset(),
    _S.WAKING: frozenset(),
    _S.DRAINING: frozenset({_E.STOP}),
    _S.STOPPING: frozenset(_E) - {_E.BEGIN, _E.FETCHED, _E.GONE},
    _S.ENDED: frozenset(_E) - {_E.BEGIN},
}

TABLE: Mapping[tuple[State, Event], State | Refusal] = {
    (state, event): _MOVES[state].get(event, Refusal.LATE if event in _LATE[state] else Refusal.ILLEGAL)
    for state in State
    for event in Event
}


def advance(state: State, event: Event) -> State | None:
    """The next state, or None when the event came late. Raises IllegalEvent."""
    outcome = TABLE[state, event]
    if outcome is Refusal.ILLEGAL:
        raise IllegalEvent(f"{event.value} in {state.value}")
    return outcome if isinstance(outcome, State) else None


def mermaid() -> str:
    """The moves as a mermaid state diagram, one arrow a pair of states (ARCHITECTURE.md holds it)."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.PENDING.name}"]
    for source, moves in _MOVES.items():
        for target in dict.fromkeys(moves.values()):
            events = ", ".join(event.value for event, state in moves.items() if state is target)
            lines.append(f"    {source.name} --> {target.name}: {events}")
    return "\n".join([*lines, f"    {State.ENDED.name} --> [*]"])

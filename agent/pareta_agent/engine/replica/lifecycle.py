"""Replica lifecycle: maps every pair of state and event to a move, late or illegal, as a table.

A replica is used once; a restart is a new generation, waking up is not. The table drives; nothing here awaits, logs or
reads a clock. Causes of events and times are out of scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class ReplicaState(Enum):
    PENDING = "pending"
    FETCHING = "fetching"
    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"
    WAKING = "waking"
    DRAINING = "draining"
    STOPPING = "stopping"
    ENDED = "ended"


class ReplicaEvent(Enum):
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


class EventRefusal(Enum):
    """Why an event is no move: `LATE` lost a race and is ignored, `ILLEGAL` can only come from a bug."""

    LATE = "late"
    ILLEGAL = "illegal"


class IllegalEvent(Exception):
    """A broken promise of the owner task: this event cannot happen in this state."""


_S, _E = ReplicaState, ReplicaEvent
_MOVES: Mapping[ReplicaState, Mapping[ReplicaEvent, ReplicaState]] = {
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
# Events still on the way when the state has moved on: verdicts of watchers, and requests of other components.
_LATE: Mapping[ReplicaState, frozenset[ReplicaEvent]] = {
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

TABLE: Mapping[tuple[ReplicaState, ReplicaEvent], ReplicaState | EventRefusal] = {
    (state, event): _MOVES[state].get(
        event, EventRefusal.LATE if event in _LATE[state] else EventRefusal.ILLEGAL
    )
    for state in ReplicaState
    for event in ReplicaEvent
}


def advance(state: ReplicaState, event: ReplicaEvent) -> ReplicaState | None:
    """The next state, or None when the event came late. Raises IllegalEvent."""
    outcome = TABLE[state, event]
    if outcome is EventRefusal.ILLEGAL:
        raise IllegalEvent(f"{event.value} in {state.value}")
    return outcome if isinstance(outcome, ReplicaState) else None


def mermaid() -> str:
    """The moves as a mermaid state diagram, an arrow for each pair of states (ARCHITECTURE.md holds the diagram)."""
    lines = ["stateDiagram-v2", f"    [*] --> {ReplicaState.PENDING.name}"]
    for source, moves in _MOVES.items():
        for target in dict.fromkeys(moves.values()):
            events = ", ".join(event.value for event, state in moves.items() if state is target)
            lines.append(f"    {source.name} --> {target.name}: {events}")
    return "\n".join([*lines, f"    {ReplicaState.ENDED.name} --> [*]"])

"""Demand: the requests and the waiting calls of each engine, this agent's and those of the agent before it.

The agent before this one answers its last callers on engines that are this one's by then.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pareta_agent.clock import Clock
from pareta_agent.contract.fleet_view import at_engine
from pareta_agent.gateway.gateway import Gateway


@dataclass(slots=True)
class Borrowed:
    """The other agent's: `load` is its admitted requests by replica, `waiting` its waiting calls by endpoint."""

    load: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Demand:
    front: Gateway
    clock: Clock
    borrowed: Borrowed = field(default_factory=Borrowed)

    def load(self, replica: str) -> int:
        """Admitted requests at a replica, by its name."""
        return self.front.load(replica) + self.borrowed.load[replica]

    def waiting(self, endpoint: str) -> int:
        """Calls that wait to be admitted to an endpoint, by its id."""
        return self.front.waiting(endpoint) + self.borrowed.waiting[endpoint]

    def used_s(self, engine: str) -> float:
        """The moment of the monotonic clock at which the engine was last busy: now while it works, -inf for never."""
        borrowed = at_engine(self.borrowed.load, engine)
        return self.clock.mono_s() if borrowed else self.front.used_s(engine)

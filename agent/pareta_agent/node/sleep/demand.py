"""Demand: counts the requests and waiting calls of each engine, of this agent and of its predecessor.

The predecessor answers its last callers on engines that this agent already owns.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pareta_agent.clock import Clock
from pareta_agent.contract.fleet_view import at_engine
from pareta_agent.gateway.gateway import Gateway


@dataclass(slots=True)
class Borrowed:
    """The predecessor's demand: `load` has admitted requests by replica, `waiting` has waiting calls by endpoint."""

    load: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Demand:
    front: Gateway
    clock: Clock
    borrowed: Borrowed = field(default_factory=Borrowed)

    def load(self, replica: str) -> int:
        """Admitted requests at a replica."""
        return self.front.load(replica) + self.borrowed.load[replica]

    def waiting(self, endpoint: str) -> int:
        """Calls that wait for admission to an endpoint."""
        return self.front.waiting(endpoint) + self.borrowed.waiting[endpoint]

    def used_s(self, engine: str) -> float:
        """The monotonic time of the engine's last work: now while busy, -inf for never."""
        borrowed = at_engine(self.borrowed.load, engine)
        return self.clock.mono_s() if borrowed else self.front.used_s(engine)

"""What all requests of the front share: limits, the other rooms, connections, the load, and who is being served."""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pareta_agent.access.limits import Limiter
from pareta_agent.front.choice import Affinity, Room
from pareta_agent.front.cors import Cors
from pareta_agent.front.crowd import Crowd
from pareta_agent.front.deps import FrontDeps, FrontSettings
from pareta_agent.front.envelope import Problem
from pareta_agent.front.heads import Heads
from pareta_agent.front.hold import Hold
from pareta_agent.front.hosts import Hosts
from pareta_agent.front.partials import Partials
from pareta_agent.front.poison import Poison
from pareta_agent.front.replays import Replays
from pareta_agent.front.uploads import Uploads
from pareta_agent.front.upstream import Pools

if TYPE_CHECKING:
    from pareta_agent.front.application import Apply

PACE_WEIGHT = 0.1


class Served(Protocol):
    """A request that the desk watches over."""

    def tick(self, now_s: float) -> None:
        """A moment passed: end what is overdue."""

    def is_last(self) -> None:
        """No request shall follow on its connection, if the answer can still say so."""

    def cut(self) -> None:
        """The drain's deadline passed: end now."""


class Callers(Protocol):
    """Who hears of connections where another process counts them."""

    def came(self, connection: Crowded, host: str) -> None: ...

    def went(self, connection: Crowded) -> None: ...


class Crowded(Protocol):
    """A connection that may be one too many."""

    def refuse(self, reason: str, problem: Problem) -> None: ...


class Desk:
    """Shared by all connections of one process; everything happens on its event loop.

    `apply` asks whoever has the books for a ticket.
    """

    def __init__(
        self, settings: FrontSettings, deps: FrontDeps, apply: Apply, callers: Callers | None = None
    ) -> None:
        self.settings = settings
        self.deps = deps
        self.apply, self.callers = partial(apply, self), callers
        self.pools = Pools(deps.clock)
        self.limiter = Limiter(deps.clock)
        self.hold = Hold(settings, deps)
        self.hosts = Hosts(settings.hosts)
        self.cors = Cors(settings.cors_origins)
        self.heads = Heads()
        self.crowd = Crowd(settings.max_connections, settings.max_connections_per_address)
        self.uploads = Uploads(settings)
        self.on_loop_bytes = min(settings.off_loop_body_bytes, settings.max_body_bytes)
        self.room = Room(
            settings.in_flight_per_seat,
            settings.min_in_flight_per_replica,
            settings.max_in_flight_per_replica,
        )
        self.affinity = Affinity()
        self.replays = Replays(settings.idempotency_bytes, settings.idempotency_ttl_s, deps.clock)
        self.poison = Poison(deps.metrics, deps.clock)
        self.pace: dict[str, float] = {}
        self.partials = Partials(deps.metrics, deps.clock, deps.emit)
        self.load: dict[str, int] = {}
        self.used_s: dict[str, float] = {}
        self.by_key: dict[str, int] = {}
        self.open: set[Served] = set()
        self.idle = asyncio.Event()
        self.idle.set()
        self.draining = self.lame_duck = False
        self.heir: Callable[[socket.socket], None] | None = None
        self._prefix = os.urandom(8).hex()
        self._requests = 0
        self._salts: dict[str, str] = {}

    def new_request_id(self) -> str:
        """Unique over restarts by its random part, within this process by its count."""
        self._requests += 1
        return f"req_{self._prefix}{self._requests:08x}"

    def salt_of(self, org: str) -> str:
        """What keeps an org's part of a prefix cache its own; nobody without this process's secret can say it."""
        salt = self._salts.get(org)
        if salt is None:
            salt = self._salts[org] = hmac.digest(self.deps.secret, org.encode(), "sha256").hex()
        return salt

    def enter(self, served: Served) -> None:
        self.open.add(served)
        self.idle.clear()

    def leave(self, served: Served) -> None:
        self.open.discard(served)
        self.uploads.ended(served)
        if not self.open:
            self.idle.set()

    def begin_run(self, replica: str, key_id: str) -> None:
        _one_more(self.load, replica)
        _one_more(self.by_key, key_id)

    def end_run(self, replica: str, key_id: str, took_s: float) -> None:
        """Names that no longer run anything are forgotten, but for when that was and what it took."""
        before_s = self.pace.get(replica, took_s)
        self.pace[replica] = before_s + PACE_WEIGHT * (took_s - before_s)
        self.used_s[replica] = self.deps.clock.mono_s()
        _one_less(self.load, replica)
        _one_less(self.by_key, key_id)

    def move_run(self, replica: str, to: str) -> None:
        """A run that one replica lost goes on at another."""
        _one_less(self.load, replica)
        _one_more(self.load, to)

    def tick(self) -> None:
        """Once a second or so: deadlines, stale connections, engines that are gone."""
        now_s = self.deps.clock.mono_s()
        self.partials.tick()
        for served in list(self.open):
            served.tick(now_s)
        fleet = self.deps.fleet_view()
        sockets = (replica.socket for e in fleet.endpoints.values() for replica in e.replicas)
        self.pools.keep(sockets, self.settings.pool_idle_s)


def _one_more(counter: dict[str, int], name: str) -> None:
    counter[name] = counter.get(name, 0) + 1


def _one_less(counter: dict[str, int], name: str) -> None:
    if counter[name] == 1:
        del counter[name]
    else:
        counter[name] -= 1

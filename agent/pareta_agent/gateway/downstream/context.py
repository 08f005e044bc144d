"""Gateway context: identities, open requests, connections and limits that all calls of a process share."""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
from collections.abc import Callable

from pareta_agent.gateway.admission.state import AdmissionState
from pareta_agent.gateway.downstream.body_limits import InboundBodyBudget
from pareta_agent.gateway.downstream.connection_limits import ConnectionLimiter
from pareta_agent.gateway.downstream.cors import Cors
from pareta_agent.gateway.downstream.head_cache import HeadCache
from pareta_agent.gateway.downstream.host_allowlist import Hosts
from pareta_agent.gateway.ports import Apply, ConnectionObserver, GatewayDeps, OpenRequest
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.gateway.upstream.pool import ConnectionPools


class GatewayContext:
    """Shared by all connections of a process, owned by the event loop.

    `apply` starts a request's admission, here or in the main process; `admission` is this process's own state.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        deps: GatewayDeps,
        admission: AdmissionState,
        apply: Apply,
        callers: ConnectionObserver | None = None,
    ) -> None:
        self.settings = settings
        self.deps = deps
        self.admission = admission
        self.apply, self.callers = apply, callers
        self.pools = ConnectionPools(deps.clock)
        self.hosts = Hosts(settings.hosts)
        self.cors = Cors(settings.cors_origins)
        self.head_cache = HeadCache()
        self.connections = ConnectionLimiter(settings.max_connections, settings.max_connections_per_address)
        self.body_budget = InboundBodyBudget(settings)
        self.on_loop_bytes = min(settings.off_loop_body_bytes, settings.max_body_bytes)
        self.open: set[OpenRequest] = set()
        self.idle = asyncio.Event()
        self.idle.set()
        self.draining = self.lame_duck = False
        self.successor: Callable[[socket.socket], None] | None = None
        self._prefix = os.urandom(8).hex()
        self._requests = 0
        self._salts: dict[str, str] = {}

    def new_request_id(self) -> str:
        """Unique over restarts by a random part, within this process by a count."""
        self._requests += 1
        return f"req_{self._prefix}{self._requests:08x}"

    def salt_of(self, org: str) -> str:
        """The secret prefix-cache salt of an org, derived from the node's secret."""
        salt = self._salts.get(org)
        if salt is None:
            salt = self._salts[org] = hmac.digest(self.deps.secret, org.encode(), "sha256").hex()
        return salt

    def enter(self, served: OpenRequest) -> None:
        self.open.add(served)
        self.idle.clear()

    def leave(self, served: OpenRequest) -> None:
        self.open.discard(served)
        self.body_budget.ended(served)
        if not self.open:
            self.idle.set()

    def tick(self) -> None:
        """Enforces deadlines and closes idle and obsolete connections; called about once a second."""
        now_s = self.deps.clock.mono_s()
        self.admission.partial_answers.tick()
        for served in list(self.open):
            served.tick(now_s)
        fleet = self.deps.fleet_view()
        sockets = (replica.socket for e in fleet.endpoints.values() for replica in e.replicas)
        self.pools.keep(sockets, self.settings.pool_idle_s)

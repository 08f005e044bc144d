"""Gateway: the reverse proxy on the node's port; starts on sockets, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import uvicorn

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import at_engine, engine_of
from pareta_agent.errors import ConfigError
from pareta_agent.gateway.admission.controller import apply
from pareta_agent.gateway.admission.state import AdmissionState
from pareta_agent.gateway.asgi.readyz import Readiness
from pareta_agent.gateway.downstream.connection import ClientConnection, end_if_overdue
from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.downstream.server import GatewayServer
from pareta_agent.gateway.downstream.tls import Certificate
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.gateway.upstream import engine_metrics
from pareta_agent.gateway.workers.supervisor import WorkerSupervisor
from pareta_agent.gateway.workers.tunnel import Tunnel
from pareta_agent.gateway.workers.worker_side import MainProcessClient
from pareta_agent.telemetry.events import Event

TICK_S = 0.5
MOVE_S = 0.02
UNASKED_S = 1.0


class Gateway:
    """The gateway of a node, or of a worker. `start` once, then `set_ready`, `drain`, `stop`.

    With `settings.workers`, that many processes serve the callers, and this process keeps limits, credit and records.
    `client` and `others` are a worker's: the main process, and the app for requests that are not inference.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        deps: GatewayDeps,
        certificate: Certificate | None = None,
        *,
        client: MainProcessClient | None = None,
        others: Tunnel | None = None,
    ) -> None:
        self._certificate = certificate
        self._settings = settings
        self._deps = deps
        state = self._admission = AdmissionState(settings, deps)
        self._context = GatewayContext(
            settings, deps, state, client.apply if client else partial(apply, state), client
        )
        self._supervisor: WorkerSupervisor | None = None
        if settings.workers:
            self._supervisor = WorkerSupervisor(
                self._context, settings.workers, certificate, self._tunnel, self.listen
            )
        self._reasons: list[str] = ["starting"]
        self._tasks: list[asyncio.Task[None]] = []
        self._welcomes: set[asyncio.Task[object]] = set()
        config = uvicorn.Config(
            others or self._site(),
            http=partial(ClientConnection, self._context),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keep_alive_s),
            timeout_graceful_shutdown=1,
            ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
            backlog=4096,
        )
        self._server = GatewayServer(config)

    @property
    def in_flight(self) -> int:
        """Requests without a complete answer, the workers' included."""
        return len(self._context.open) + (self._supervisor.open if self._supervisor else 0)

    def workers(self) -> list[dict[str, Any]]:
        """The workers, for `pareta-agent status`."""
        return self._supervisor.view() if self._supervisor else []

    def load(self, replica: str) -> int:
        """Requests in flight at a replica, by name."""
        return self._admission.load.get(replica, 0)

    def observe_event(self, event: object) -> None:
        """Counts the unexpected end of an engine against the requests in flight there."""
        if isinstance(event, Event) and event.name == "engine_ended":
            self._admission.quarantine.ended(event.fields["replica"], event.fields["generation"])

    def loads(self) -> dict[str, int]:
        """`load` of every replica with requests in flight."""
        return dict(self._admission.load)

    def waiting(self, endpoint: str) -> int:
        """Calls that wait for admission to an endpoint."""
        return self._admission.wake_queue.waiting[endpoint]

    def in_line(self) -> dict[str, int]:
        """`waiting` of every endpoint with waiting calls."""
        return dict(self._admission.wake_queue.waiting)

    @property
    def longest_s(self) -> float:
        """Maximum remaining duration of the requests that are open now, in seconds."""
        return self._settings.hold_s + self._settings.body_timeout_s + self._settings.request_timeout_s

    def used_s(self, engine: str) -> float:
        """The monotonic moment at which a replica of this engine, lost or not, was last busy; now while any is busy."""
        if at_engine(self._admission.load, engine):
            return self._deps.clock.mono_s()
        ended = [when for name, when in self._admission.used_s.items() if engine_of(name) == engine]
        return max(ended, default=-math.inf)

    @property
    def draining(self) -> bool:
        """True if new requests are refused because the node stops."""
        return self._context.draining

    def set_ready(self, *reasons: str) -> None:
        """Ready if there is no reason against; `/readyz` shows the reasons, and inference continues regardless."""
        self._reasons = [*(["stopping"] if self._context.lame_duck else []), *reasons]
        self._deps.metrics.set("pareta_ready", 0 if self._reasons else 1)

    def readiness(self) -> Readiness:
        """The state that `/readyz`, `pareta_ready` and `pareta-agent status` report."""
        if self._reasons:
            return Readiness("not ready", self._reasons)
        impaired = self._supervisor.impaired() if self._supervisor else []
        return Readiness("degraded" if impaired else "ok", impaired)

    @property
    def leaving(self) -> bool:
        """True if this node is a lame duck."""
        return self._context.lame_duck

    def lame_duck(self) -> None:
        """`/readyz` answers 503 and every answer closes the connection; calls are admitted as before."""
        self._context.lame_duck = True
        for served in self._context.open:
            served.is_last()
        if self._supervisor is not None:
            self._supervisor.lame_duck()
        self.set_ready(*self._reasons)

    async def start(self, *socks: socket.socket) -> None:
        """Listens, with workers on at least a socket each; returns once connections are accepted."""
        loop = asyncio.get_running_loop()
        serving = loop.create_task(self._server.serve(sockets=[] if self._supervisor else list(socks)))
        up = loop.create_task(self._server.up.wait())
        await asyncio.wait([serving, up], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            up.cancel()
            await serving
        self._tasks = [serving, loop.create_task(self._watch())]
        if self._supervisor is not None:
            await self._supervisor.start(list(socks))
        # Objects alive now stay; a walk at each collection would cost a fifth of a request's CPU.
        gc.collect()
        gc.freeze()

    async def listen(self, *socks: socket.socket) -> None:
        """Listens on more sockets."""
        await self._server.startup(list(socks))

    async def drain(self, deadline_s: float) -> int:
        """Refuses new requests and waits for open requests; returns the number cut at the deadline."""
        self._context.draining = True
        self.set_ready("draining")
        self._admission.wake_queue.refuse_all(Problem("node_draining"))
        there = await self._supervisor.drain(deadline_s) if self._supervisor else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._context.idle.wait()
        cut = list(self._context.open)
        for served in cut:
            served.cut()
        return len(cut) + there

    async def pass_on(self, take: Callable[[socket.socket], None], deadline_s: float) -> int:
        """Stops listening and gives each connection to `take` between two requests; returns the number of requests
        cut.

        Returns once no request is open. A connection that cannot be transferred (TLS) ends after the answer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while True:
                    if await self.move(take):
                        break
                    await asyncio.sleep(MOVE_S)
        return await self.drain(0.0)

    async def move(self, take: Callable[[socket.socket], None]) -> bool:
        """A round of `pass_on`: whether every connection is gone, except idle connections that cannot be transferred.

        The last answer on such a connection did not close the connection, so a next request may arrive for a while.
        """
        self._context.successor = take
        for server in self._server.servers:
            server.close()
        gone_there = await self._supervisor.move() if self._supervisor else True
        before_s = self._deps.clock.mono_s() - UNASKED_S
        connections = [c for c in self._server.server_state.connections if isinstance(c, ClientConnection)]
        for connection in connections:
            connection.move()
        gone = all(c.between and c.stays and (c.idle_since_s or 0.0) < before_s for c in connections)
        return gone and gone_there and not self._welcomes

    def welcome(self, sock: socket.socket) -> None:
        """Serves a connection that another agent of this home accepted."""
        if self._supervisor is None or not self._supervisor.welcome(sock):
            self._take(sock, None)

    def _tunnel(self, sock: socket.socket) -> None:
        self._take(sock, "https" if self._certificate else "http")

    def _take(self, sock: socket.socket, tunnel_of: Literal["http", "https"] | None) -> None:
        loop, server = asyncio.get_running_loop(), self._server
        shared = {"server_state": server.server_state, "app_state": server.lifespan.state}
        make = partial(ClientConnection, self._context, tunnel_of, config=server.config, **shared)
        welcome = loop.create_task(loop.connect_accepted_socket(make, sock))
        self._welcomes.add(welcome)
        welcome.add_done_callback(self._welcomed)

    def _welcomed(self, welcome: asyncio.Task[object]) -> None:
        self._welcomes.discard(welcome)
        if not welcome.cancelled():
            welcome.exception()  # the caller had gone

    async def stop(self) -> None:
        """Ends every connection and the listener."""
        if not self._context.draining:
            await self.drain(0.0)
        if self._supervisor is not None:
            await self._supervisor.stop()
        self._server.leaving.set()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._context.pools.close()
        self._deps.emit(Event("front_stopped"))

    def renew_certificate(self, force: bool = False) -> None:
        """Uses the files' certificate for new handshakes, if the files changed and are valid."""
        certificate = self._certificate
        if certificate is None:
            return
        if force and self._supervisor is not None:
            self._supervisor.reread()
        try:
            changed = certificate.refresh(force)
        except ConfigError as error:
            self._deps.emit(
                Event("certificate_refused", "error", {"code": error.code, "reason": error.message})
            )
            return
        self._deps.metrics.set("pareta_tls_expires_timestamp_seconds", certificate.expires_s)
        if changed:
            self._deps.emit(Event("certificate_changed", fields={"expires_s": int(certificate.expires_s)}))

    def _site(self) -> Any:
        from pareta_agent.gateway.asgi import app  # workers do not need the app

        return app.build(self._context, self.readiness, self._exposition)

    async def _exposition(self) -> bytes:
        there = 0
        if self._supervisor is not None:
            await self._supervisor.scrape()
            there = self._supervisor.connections
        own = [c for c in self._server.server_state.connections if not getattr(c, "tunnel_of", None)]
        self._deps.metrics.set("pareta_front_connections", len(own) + there)
        engines = await engine_metrics.scrape(
            self._context.pools, self._deps.fleet_view(), self._deps.metrics
        )
        return self._deps.metrics.render() + engines

    async def _watch(self) -> None:
        settings = self._settings
        while True:
            await asyncio.sleep(TICK_S)
            self._context.tick()
            self.renew_certificate()
            now_s = self._deps.clock.mono_s()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, ClientConnection):
                    end_if_overdue(connection, settings.header_timeout_s, settings.keep_alive_s, now_s)

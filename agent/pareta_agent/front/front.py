"""The front as the node sees it: starts on a socket, drains, stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import socket
from collections.abc import Iterator
from functools import partial

import uvicorn

from pareta_agent.front import app, engine_metrics
from pareta_agent.front.deps import FrontDeps, FrontSettings
from pareta_agent.front.desk import Desk
from pareta_agent.front.envelope import Problem
from pareta_agent.front.protocol import FrontProtocol
from pareta_agent.telemetry.events import Event

TICK_S = 0.5


class _Server(uvicorn.Server):
    """uvicorn's server, told to stop by an event; signals and drains are the node's and the front's business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        while not self.leaving.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(self.server_state.connections):
            if (transport := connection.transport) is not None:
                transport.close()


class Front:
    """One process's HTTP side. `start` once, then `set_ready`, `drain`, `stop`."""

    def __init__(self, settings: FrontSettings, deps: FrontDeps) -> None:
        self._settings = settings
        self._deps = deps
        self._desk = Desk(settings, deps)
        self._reasons: list[str] = ["starting"]
        self._tasks: list[asyncio.Task[None]] = []
        config = uvicorn.Config(
            app.build(self._desk, self._not_ready, self._exposition),
            http=partial(FrontProtocol, self._desk),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keep_alive_s),
            timeout_graceful_shutdown=1,
            backlog=4096,
        )
        self._server = _Server(config)

    @property
    def in_flight(self) -> int:
        """Requests of callers that are not answered yet."""
        return len(self._desk.open)

    def load(self, replica: str) -> int:
        """Admitted requests that this replica works on, by its name."""
        return self._desk.load.get(replica, 0)

    def used_s(self, replica: str) -> float:
        """The moment, of the monotonic clock, at which this replica was last busy; now while it works."""
        if self.load(replica):
            return self._deps.clock.mono_s()
        return self._desk.used_s.get(replica, -math.inf)

    @property
    def draining(self) -> bool:
        """Whether new requests are refused because the node is going away."""
        return self._desk.draining

    def set_ready(self, *reasons: str) -> None:
        """Ready when no reason against it is given; `/readyz` shows them, inference goes on regardless."""
        self._reasons = list(reasons)
        self._deps.metrics.set("pareta_ready", 0 if self._not_ready() else 1)

    async def start(self, sock: socket.socket) -> None:
        """Listens; returns once connections are taken."""
        loop = asyncio.get_running_loop()
        serving = loop.create_task(self._server.serve(sockets=[sock]))
        up = loop.create_task(self._server.up.wait())
        await asyncio.wait([serving, up], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            up.cancel()
            await serving
        self._tasks = [serving, loop.create_task(self._watch())]
        # What is alive now stays; walking it at each collection would cost a fifth of a request's CPU.
        gc.collect()
        gc.freeze()

    async def drain(self, deadline_s: float) -> int:
        """Admits nothing more and lets what runs finish; gives how many had to be cut at the deadline."""
        self._desk.draining = True
        self.set_ready("draining")
        self._desk.hold.refuse_all(Problem("node_draining"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._desk.idle.wait()
        cut = list(self._desk.open)
        for served in cut:
            served.cut()
        return len(cut)

    async def stop(self) -> None:
        """Ends every connection and the listener."""
        if not self._desk.draining:
            await self.drain(0.0)
        self._server.leaving.set()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._desk.pools.close()
        self._deps.emit(Event("front_stopped"))

    def _not_ready(self) -> list[str]:
        return self._reasons

    async def _exposition(self) -> bytes:
        self._deps.metrics.set("pareta_front_connections", len(self._server.server_state.connections))
        engines = await engine_metrics.scrape(self._desk.pools, self._deps.fleet_view(), self._deps.metrics)
        return self._deps.metrics.render() + engines

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._desk.tick()
            now_s = self._deps.clock.mono_s()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, FrontProtocol):
                    connection.overdue(now_s)

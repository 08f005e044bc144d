"""Node: starts the components of a node, runs the loops until a signal, and stops the components in order.

Up: port, spool, gateway, adopted engines, plane, engines; after a predecessor the gateway comes last. Down: readiness,
admitted requests, engines, the last records, the port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from pareta_agent import __version__, config
from pareta_agent.catalog.source import CatalogSource
from pareta_agent.clock import Clock, SystemClock
from pareta_agent.config import Settings
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.node.identity import StoredIdentity
from pareta_agent.node.lame_duck import lame_duck
from pareta_agent.node.listeners import base_url, close, inherit, listen
from pareta_agent.node.readiness import PlaneAddress, Ready, arrived, state_of
from pareta_agent.node.signals import Signals
from pareta_agent.node.startup import Startup
from pareta_agent.node.status.admin_socket import Admin
from pareta_agent.node.task_group import LoopGroup
from pareta_agent.node.upgrade.handover import Handover
from pareta_agent.node.upgrade.predecessor import Predecessor
from pareta_agent.node.upgrade.upgrade_socket import FILE, UpgradeListener
from pareta_agent.node.wiring import Components
from pareta_agent.telemetry.events import Bus, Event
from pareta_agent.telemetry.systemd import Notifier

FLUSH_S = 5.0


class Node:
    """A node from start to end. `run` returns the exit code; `on_ready` is called once, at most."""

    def __init__(
        self,
        settings: Settings,
        identity: StoredIdentity,
        catalog_source: CatalogSource,
        address: PlaneAddress,
        bus: Bus,
        signals: Signals,
        on_ready: Callable[[Ready], Awaitable[None]],
        clock: Clock | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        self._settings, self._identity, self._address, self._bus = settings, identity, address, bus
        self._catalog_source = catalog_source
        self._signals, self._on_ready, self._clock = signals, on_ready, clock or SystemClock()
        self._begun_s = time.monotonic()
        self._notify = Notifier(config.environment().get("NOTIFY_SOCKET"))
        self._predecessor = predecessor
        self._helping: asyncio.Task[None] | None = None
        self._unopened: list[socket.socket] | None = None
        self._lame_duck = partial(lame_duck, bus, settings.front.lame_duck_s)

    async def run(self) -> int:
        """Returns after a signal, a failed loop or, beside an embedded plane, a start in which every endpoint failed.

        Raises AgentError: the reason for which the node could not start.
        """
        socks = self._unopened = await self._sockets()
        scheme = "https" if self._settings.front.tls_cert_file else "http"
        self._base_url = base_url(scheme, self._settings.host, socks[0])
        self._bus(Event("port_opened", fields={"base_url": self._base_url}))
        it = self._components = await Components.open(
            self._settings,
            self._identity,
            self._catalog_source,
            self._address,
            self._bus,
            self._clock,
            shared=self._predecessor is not None,
        )
        it.heart.reached_at(self._base_url)
        it.report.sinks.add(self._notify)
        self._startup = Startup(
            it, self._address, self._base_url, self._begun_s, self._bus, self._notify, self._on_ready
        )
        run_dir = config.run_dir(self._settings.home)
        self._admin = Admin(run_dir / "agent.sock", self._status, self._flush)
        self._upgrades = UpgradeListener(run_dir / FILE)
        self._make_loops(it)
        self._handover = Handover(
            it.ownership,
            (self._working, self._reporting),
            self._upgrades,
            [sock.dup() for sock in socks],
            self._bus,
            self._alive,
            self._main_is,
        )
        try:
            if self._predecessor is None:
                await self._open()
            else:
                await self._predecessor.taken(it.spool.inherited)
                it.demand.borrowed = self._predecessor.borrowed
            await it.fleet.reap_orphans()
            await self._live(it)
        finally:
            self._upgrades.close()
            await self._down(it)
        if self._startup.given_up is not None and not self._startup.was_ready:
            raise self._startup.given_up
        return 0

    async def _sockets(self) -> list[socket.socket]:
        """The listening sockets: the predecessor's, unless the settings name another port."""
        wanted, size = self._settings.port, max(1, self._settings.front.workers)
        if self._predecessor is None:
            return listen(self._settings.host, wanted, size)
        return inherit(await self._predecessor.take(), self._settings.host, wanted, size)

    def _make_loops(self, it: Components) -> None:
        self._reporting = LoopGroup([it.heart.run, it.uplink.run])
        self._working = LoopGroup(
            [
                *(it.observer.run, it.questions.run),
                partial(it.gpus.run, it.gpus_moved),
                it.idle_scaler.run,
                it.prefetcher.run,
                partial(it.catalog_source.run, it.catalog_changed),
                partial(self._audit, it),
                it.spool.guard,
                partial(self._control, it),
                partial(self._reread, it),
                partial(self._startup.run, self._advance),
            ]
        )

    async def _live(self, it: Components) -> None:
        """Runs every loop until a signal, a loop's end, or a complete hand-over."""
        self._notify("READY=1", "STATUS=starting engines")
        if self._predecessor is not None:
            self._helping = asyncio.create_task(self._predecessor.serve(it.ownership))
        self._reporting.start()
        self._working.start()
        stop = asyncio.create_task(self._signals.stop.wait())
        others = [asyncio.create_task(self._handover.run()), self._reporting.over, self._working.over]
        waits: list[asyncio.Future[Any]] = [stop, *others]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if done == {stop} and self._startup.was_ready:
                done = await self._lame_duck(it.front, self._signals.hurry, others)
            for ended in done:
                ended.result()
        finally:
            await _cancel(waits)
            await self._working.stop()

    async def _control(self, it: Components) -> None:
        """Starts the controller once the plane has assigned an epoch; starts are reported under the epoch."""
        await it.registered.wait()
        await it.controller.run()

    async def _audit(self, it: Components) -> None:
        """Waits for the predecessor's end: until then the engines count the requests of both agents."""
        if self._helping is not None:
            await asyncio.wait([self._helping])
        await it.auditor.run()

    async def _reread(self, it: Components) -> None:
        """Reads the certificate again at each SIGHUP, even when the files look unchanged."""
        while True:
            await self._signals.reread.wait()
            self._signals.reread.clear()
            it.front.renew_certificate(force=True)

    async def _advance(self, view: FleetView) -> None:
        """Opens the gateway. After a predecessor: only when the engines in use are live here, or the predecessor is
        gone.
        """
        self._alive()
        alone = self._predecessor_is_gone()
        if self._unopened is not None and (alone or arrived(view, self._components.fleet.kept)):
            await self._open()

    def _predecessor_is_gone(self) -> bool:
        """Raises the error of the link between the two agents, which ends this agent."""
        if self._helping is None or not self._helping.done():
            return False
        self._helping.result()
        return True

    async def _open(self) -> None:
        """Opens the gateway, the admin socket and the upgrade socket."""
        assert self._unopened is not None
        socks, self._unopened = self._unopened, None
        await self._components.front.start(*socks)
        await self._admin.start()
        self._upgrades.open()
        if self._predecessor is not None:
            self._predecessor.serving(self._components.front.welcome)

    async def _down(self, it: Components) -> None:
        """Stops everything in order. Each step has a deadline, which a second signal shortens."""
        self._notify("STOPPING=1")
        hurry = asyncio.create_task(self._hurry(it))
        try:
            await it.drain(self._settings.drain_timeout_s, self._signals.hurry)
            if self._handover.successor is None:
                await self._end_engines(it)
            await it.front.stop()
            if self._handover.successor is None and it.registered.is_set():
                await it.ownership.end_epoch()
                await it.uplink.drained(0.5 if self._signals.hurry.is_set() else FLUSH_S)
            await self._handover.goodbye()
        finally:
            hurry.cancel()
            await _cancel([self._helping] if self._helping else [])
            await self._reporting.stop()
            await self._admin.stop()
            await it.close()

    async def _end_engines(self, it: Components) -> None:
        """Ends the engines, unless the predecessor still serves from them."""
        if self._unopened is not None:
            close(self._unopened)
            await it.fleet.leave()
        else:
            await it.fleet.close(1.0)

    def _alive(self) -> None:
        self._notify("WATCHDOG=1")

    def _main_is(self, pid: int) -> None:
        self._notify(f"MAINPID={pid}")
        self._notify.leave()

    async def _hurry(self, it: Components) -> None:
        await self._signals.hurry.wait()
        self._bus(Event("hurried", "warning"))
        it.fleet.hurry()

    async def _flush(self) -> bool:
        return await self._components.uplink.drained(FLUSH_S)

    def _status(self) -> dict[str, Any]:
        now, stopping = self._components.front.readiness(), self._signals.stop.is_set()
        return {
            "node": self._identity.node,
            "version": __version__,
            "state": state_of(now, stopping=stopping, was_ready=self._startup.was_ready),
            "reasons": list(now.reasons),
            "base_url": self._base_url,
            "uptime_s": round(time.monotonic() - self._begun_s, 1),
            "pid": os.getpid(),
            **self._components.report.status(),
        }


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

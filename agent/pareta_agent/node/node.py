"""The composition root: makes every room, joins them, runs them, and takes them down in the right order.

It holds no rule of its own. Up: port, records, front, engines' remains, plane, engines; after another agent of this
home the front comes last. Down: readiness, admitted requests, engines, the last records, the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from pareta_agent import __version__, config
from pareta_agent.clock import Clock, SystemClock
from pareta_agent.config import Settings
from pareta_agent.control.offer import CatalogSource
from pareta_agent.errors import AgentError, EngineError
from pareta_agent.node.admin import Admin
from pareta_agent.node.elder import FILE, Elder
from pareta_agent.node.identity import StoredIdentity
from pareta_agent.node.idle_notice import IdleNotice
from pareta_agent.node.lame_duck import lame_duck
from pareta_agent.node.line import Door
from pareta_agent.node.listen import base_url, close, inherit, listen
from pareta_agent.node.loops import Loops
from pareta_agent.node.ready import PlaneAddress, Ready
from pareta_agent.node.rooms import Rooms
from pareta_agent.node.signals import Signals
from pareta_agent.node.spool_alarm import SpoolAlarm
from pareta_agent.node.succession import Succession
from pareta_agent.node.watch import Start, arrived, judge, not_ready, state_of
from pareta_agent.telemetry.events import Bus, Event
from pareta_agent.telemetry.systemd import Notifier

FLUSH_S = 5.0
WATCH_S = 1.0


class Node:
    """One node from start to end. `run` returns the exit code; `on_ready` is called once, at most."""

    def __init__(
        self,
        settings: Settings,
        identity: StoredIdentity,
        offer: CatalogSource,
        address: PlaneAddress,
        bus: Bus,
        signals: Signals,
        on_ready: Callable[[Ready], Awaitable[None]],
        clock: Clock | None = None,
        elder: Elder | None = None,
    ) -> None:
        self._settings, self._identity, self._address, self._bus = settings, identity, address, bus
        self._offer = offer
        self._signals, self._on_ready, self._clock = signals, on_ready, clock or SystemClock()
        self._begun_s = time.monotonic()
        self._notify = Notifier(config.environment().get("NOTIFY_SOCKET"))
        self._given_up: AgentError | None = None
        self._was_ready, self._elder = False, elder
        self._helping: asyncio.Task[None] | None = None
        self._unopened: list[socket.socket] | None = None
        self._lame_duck = partial(lame_duck, bus, settings.front.lame_duck_s)
        bus.listen(self._hear)

    async def run(self) -> int:
        """Until a signal, a broken promise, or, beside an embedded plane, a start of which nothing came.

        Raises AgentError: what kept the node from starting.
        """
        socks = self._unopened = await self._sockets()
        scheme = "https" if self._settings.front.tls_cert_file else "http"
        self._base_url = base_url(scheme, self._settings.host, socks[0])
        self._bus(Event("port_opened", fields={"base_url": self._base_url}))
        rooms = self._rooms = await Rooms.open(
            self._settings,
            self._identity,
            self._offer,
            self._address,
            self._bus,
            self._clock,
            shared=self._elder is not None,
        )
        rooms.heart.reached_at(self._base_url)
        rooms.report.sinks.add(self._notify)
        run_dir = config.run_dir(self._settings.home)
        self._admin = Admin(run_dir / "agent.sock", self._status, self._flush)
        self._door = Door(run_dir / FILE)
        self._make_loops(rooms)
        self._succession = Succession(
            rooms,
            self._working,
            self._reporting,
            self._door,
            [sock.dup() for sock in socks],
            self._bus,
            self._alive,
            self._main_is,
        )
        try:
            if self._elder is None:
                await self._open(rooms)
            else:
                await self._elder.taken(rooms.spool.inherited)
                rooms.demand.borrowed = self._elder.borrowed
            await rooms.fleet.reap_orphans()
            await self._live(rooms)
        finally:
            self._door.close()
            await self._down(rooms)
        if self._given_up is not None and not self._was_ready:
            raise self._given_up
        return 0

    async def _sockets(self) -> list[socket.socket]:
        """The port: the other agent's, unless another one is wanted now."""
        wanted, size = self._settings.port, max(1, self._settings.front.workers)
        if self._elder is None:
            return listen(self._settings.host, wanted, size)
        return inherit(await self._elder.take(), self._settings.host, wanted, size)

    def _make_loops(self, rooms: Rooms) -> None:
        self._reporting = Loops([rooms.heart.run, rooms.uplink.run])
        self._working = Loops(
            [
                *(rooms.observer.run, rooms.questions.run),
                partial(rooms.gpus.run, rooms.gpus_moved),
                rooms.idler.run,
                rooms.prefetcher.run,
                partial(rooms.offer.run, rooms.catalog_changed),
                partial(self._audit, rooms),
                rooms.spool.guard,
                partial(self._control, rooms),
                partial(self._reread, rooms),
                partial(self._watch, rooms),
            ]
        )

    async def _live(self, rooms: Rooms) -> None:
        """Runs every loop until a signal, until one of them ends, or until another agent has everything."""
        self._notify("READY=1", "STATUS=starting engines")
        if self._elder is not None:
            self._helping = asyncio.create_task(self._elder.serve(rooms))
        self._reporting.start()
        self._working.start()
        stop = asyncio.create_task(self._signals.stop.wait())
        others = [asyncio.create_task(self._succession.run()), self._reporting.over, self._working.over]
        waits: list[asyncio.Future[Any]] = [stop, *others]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if done == {stop} and self._was_ready:
                done = await self._lame_duck(rooms.front, self._signals.hurry, others)
            for ended in done:
                ended.result()
        finally:
            await _cancel(waits)
            await self._working.stop()

    async def _control(self, rooms: Rooms) -> None:
        """The controller needs an epoch: what it starts is reported under one."""
        await rooms.registered.wait()
        await rooms.controller.run()

    async def _audit(self, rooms: Rooms) -> None:
        """Engines count for both agents while there are two."""
        if self._helping is not None:
            await asyncio.wait([self._helping])
        await rooms.auditor.run()

    async def _reread(self, rooms: Rooms) -> None:
        """SIGHUP: the certificate, whether or not its files look changed."""
        while True:
            await self._signals.reread.wait()
            self._signals.reread.clear()
            rooms.front.renew_certificate(force=True)

    async def _watch(self, rooms: Rooms) -> None:
        """Follows the fleet: readiness, the Ready block, and a start of which nothing came."""
        revision, alarm = 0, SpoolAlarm(self._bus)
        notice = IdleNotice(self._base_url, self._address.url, self._bus, self._notify)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    revision = await rooms.fleet.changed(revision)
            wanted, view = rooms.controller.wanted.values(), rooms.fleet.view()
            lease, metering = rooms.heart.may_admit(), rooms.spool.can_admit()
            alarm.look(rooms.spool.stats(), metering)
            rooms.front.set_ready(*not_ready(wanted, view, lease=lease, metering=metering))
            self._alive()
            start, alone = judge(wanted, view), self._elder_is_gone()
            if self._unopened is not None and (alone or arrived(view, rooms.fleet.kept)):
                await self._open(rooms)
            notice.look(start, known=rooms.report.up_to_date())
            if start is Start.LIVE and not self._was_ready:
                await self._tell_ready(rooms)
            elif start is Start.FAILED and not self._was_ready and self._address.embedded:
                self._given_up = next(iter(rooms.controller.failures.values()), self._given_up)
                return

    def _elder_is_gone(self) -> bool:
        """Raises what went wrong between the two, which ends this agent."""
        if self._helping is None or not self._helping.done():
            return False
        self._helping.result()
        return True

    async def _open(self, rooms: Rooms) -> None:
        """From now on this agent answers: after another one, when the engines that it serves from are proved here."""
        assert self._unopened is not None
        socks, self._unopened = self._unopened, None
        await rooms.front.start(*socks)
        await self._admin.start()
        self._door.open()
        if self._elder is not None:
            self._elder.serving(rooms.front.welcome)

    async def _tell_ready(self, rooms: Rooms) -> None:
        self._was_ready = True
        self._notify("STATUS=live")
        where = self._base_url, f"{self._base_url.removesuffix('/v1')}/metrics"
        endpoints = tuple(rooms.fleet.view().endpoints.values())
        seconds, said = time.monotonic() - self._begun_s, rooms.report.workarounds()
        await self._on_ready(Ready(*where, endpoints, os.getpid(), seconds, said))

    async def _down(self, rooms: Rooms) -> None:
        """Each step has a deadline; a second signal ends their patience."""
        self._notify("STOPPING=1")
        hurry = asyncio.create_task(self._hurry(rooms))
        try:
            await rooms.drain(self._settings.drain_timeout_s, self._signals.hurry)
            if self._succession.heir is None:
                await self._end_engines(rooms)
            await rooms.front.stop()
            if self._succession.heir is None and rooms.registered.is_set():
                await rooms.end_epoch()
                await rooms.uplink.drained(0.5 if self._signals.hurry.is_set() else FLUSH_S)
            await self._succession.goodbye()
        finally:
            hurry.cancel()
            await _cancel([self._helping] if self._helping else [])
            await self._reporting.stop()
            await self._admin.stop()
            await rooms.close()

    async def _end_engines(self, rooms: Rooms) -> None:
        """Those that another agent still serves from are not ours to end."""
        if self._unopened is not None:
            close(self._unopened)
            await rooms.fleet.leave()
        else:
            await rooms.fleet.close(1.0)

    def _alive(self) -> None:
        self._notify("WATCHDOG=1")

    def _main_is(self, pid: int) -> None:
        self._notify(f"MAINPID={pid}")
        self._notify.leave()

    async def _hurry(self, rooms: Rooms) -> None:
        await self._signals.hurry.wait()
        self._bus(Event("hurried", "warning"))
        rooms.fleet.hurry()

    def _hear(self, event: object) -> None:
        """Keeps why an engine was given up, for the exit code of a start that failed."""
        if isinstance(event, Event) and event.name == "engine_given_up":
            fields = event.fields
            error = AgentError.of_exit(int(fields.get("exit_code", EngineError.exit_code)))
            remedy = str(fields.get("remedy") or "read the engine's log, named above")
            self._given_up = error(str(fields["code"]), f"{fields['endpoint']}: {fields['reason']}", remedy)

    async def _flush(self) -> bool:
        return await self._rooms.uplink.drained(FLUSH_S)

    def _status(self) -> dict[str, Any]:
        now, stopping = self._rooms.front.readiness(), self._signals.stop.is_set()
        return {
            "node": self._identity.node,
            "version": __version__,
            "state": state_of(now, stopping=stopping, was_ready=self._was_ready),
            "reasons": list(now.reasons),
            "base_url": self._base_url,
            "uptime_s": round(time.monotonic() - self._begun_s, 1),
            "pid": os.getpid(),
            **self._rooms.report.status(),
        }


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

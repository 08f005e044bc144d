"""The composition root: makes every room, joins them, runs them, and takes them down in the right order.

It holds no rule of its own. Up: port, records, front, engines' remains, plane, engines. Down: readiness, admitted
requests, engines, the last records, the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pareta_agent import __version__, config
from pareta_agent.clock import Clock, SystemClock
from pareta_agent.config import Settings
from pareta_agent.control.offer import Offer
from pareta_agent.errors import AgentError, EngineError
from pareta_agent.node.admin import Admin
from pareta_agent.node.identity import Identity
from pareta_agent.node.listen import listen, url_host
from pareta_agent.node.ready import PlaneAddress, Ready
from pareta_agent.node.rooms import Rooms
from pareta_agent.node.signals import Signals
from pareta_agent.node.spool_alarm import SpoolAlarm
from pareta_agent.node.watch import Start, judge, not_ready
from pareta_agent.telemetry.events import Bus, Event
from pareta_agent.telemetry.systemd import notify

FLUSH_S = 5.0
WATCH_S = 1.0


class Node:
    """One node from start to end. `run` returns the exit code; `on_ready` is called once, at most."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        offer: Offer,
        address: PlaneAddress,
        bus: Bus,
        signals: Signals,
        on_ready: Callable[[Ready], None],
        clock: Clock | None = None,
    ) -> None:
        self._settings, self._identity, self._address, self._bus = settings, identity, address, bus
        self._offer = offer
        self._signals, self._on_ready, self._clock = signals, on_ready, clock or SystemClock()
        self._begun_s = time.monotonic()
        self._notify_socket = config.environment().get("NOTIFY_SOCKET")
        self._given_up: AgentError | None = None
        self._was_ready = False
        bus.listen(self._hear)

    async def run(self) -> int:
        """Until a signal, a broken promise, or, beside an embedded plane, a start of which nothing came.

        Raises AgentError: what kept the node from starting.
        """
        sock = listen(self._settings.host, self._settings.port)
        scheme = "https" if self._settings.front.tls_cert_file else "http"
        self._base_url = _base_url(scheme, self._settings.host, sock)
        self._bus(Event("port_opened", fields={"base_url": self._base_url}))
        rooms = await Rooms.open(
            self._settings, self._identity, self._offer, self._address, self._bus, self._clock
        )
        self._rooms = rooms
        rooms.heart.reached_at(self._base_url)
        admin = Admin(config.run_dir(self._settings.home) / "agent.sock", self._status, self._flush)
        try:
            await rooms.front.start(sock)
            await admin.start()
            await rooms.fleet.reap_orphans()
            await self._live(rooms)
        finally:
            await self._down(rooms, admin)
        if self._given_up is not None and not self._was_ready:
            raise self._given_up
        return 0

    async def _live(self, rooms: Rooms) -> None:
        """Runs every loop until a signal, or until one of them ends."""
        notify(self._notify_socket, "READY=1", "STATUS=starting engines")
        loops: list[Coroutine[Any, Any, None]] = [
            rooms.heart.run(),
            rooms.uplink.run(),
            rooms.observer.run(),
            rooms.questions.run(),
            rooms.gpus.run(rooms.gpus_moved),
            rooms.idler.run(),
            rooms.offer.run(rooms.catalog_changed),
            rooms.auditor.run(),
            rooms.spool.guard(),
            self._control(rooms),
            self._reread(rooms),
            self._watch(rooms),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stop = asyncio.create_task(self._signals.stop.wait())
        try:
            done, _ = await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()
        finally:
            self._loops = tasks[:2]
            stop.cancel()
            await _cancel(tasks[2:])

    async def _control(self, rooms: Rooms) -> None:
        """The controller needs an epoch: what it starts is reported under one."""
        await rooms.registered.wait()
        await rooms.controller.run()

    async def _reread(self, rooms: Rooms) -> None:
        """SIGHUP: the certificate, whether or not its files look changed."""
        while True:
            await self._signals.reread.wait()
            self._signals.reread.clear()
            rooms.front.renew_certificate(force=True)

    async def _watch(self, rooms: Rooms) -> None:
        """Follows the fleet: readiness, the Ready block, and a start of which nothing came."""
        revision, alarm = 0, SpoolAlarm(self._bus)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    revision = await rooms.fleet.changed(revision)
            wanted, view = rooms.controller.wanted.values(), rooms.fleet.view()
            lease, metering = rooms.heart.may_admit(), rooms.spool.can_admit()
            alarm.look(rooms.spool.stats(), metering)
            rooms.front.set_ready(*not_ready(wanted, view, lease=lease, metering=metering))
            notify(self._notify_socket, "WATCHDOG=1")
            start = judge(wanted, view)
            if start is Start.LIVE and not self._was_ready:
                self._tell_ready(rooms)
            elif start is Start.FAILED and not self._was_ready and self._address.embedded:
                self._given_up = next(iter(rooms.controller.failures.values()), self._given_up)
                return

    def _tell_ready(self, rooms: Rooms) -> None:
        self._was_ready = True
        notify(self._notify_socket, "STATUS=live")
        endpoints = tuple(rooms.fleet.view().endpoints.values())
        root = self._base_url.removesuffix("/v1")
        seconds = time.monotonic() - self._begun_s
        self._on_ready(Ready(self._base_url, f"{root}/metrics", endpoints, os.getpid(), seconds))

    async def _down(self, rooms: Rooms, admin: Admin) -> None:
        """Each step has a deadline; a second signal ends their patience."""
        notify(self._notify_socket, "STOPPING=1")
        loops = getattr(self, "_loops", [])
        hurry = asyncio.create_task(self._hurry(rooms))
        try:
            await rooms.drain(self._settings.drain_timeout_s, self._signals.hurry)
            await rooms.fleet.close(1.0)
            await rooms.front.stop()
            if loops:
                await rooms.end_epoch()
                await rooms.uplink.drained(0.5 if self._signals.hurry.is_set() else FLUSH_S)
        finally:
            hurry.cancel()
            await _cancel(loops)
            await admin.stop()
            await rooms.close()

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
        state = "draining" if self._signals.stop.is_set() else "ready" if self._was_ready else "starting"
        return {
            "node": self._identity.node,
            "version": __version__,
            "state": state,
            "base_url": self._base_url,
            "uptime_s": round(time.monotonic() - self._begun_s, 1),
            "pid": os.getpid(),
            **self._rooms.status(),
        }


def _base_url(scheme: str, host: str, sock: socket.socket) -> str:
    return f"{scheme}://{url_host(host)}:{sock.getsockname()[1]}/v1"


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

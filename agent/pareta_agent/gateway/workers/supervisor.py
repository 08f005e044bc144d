"""Worker supervisor: starts the gateway workers, restarts a worker that ends, and drains, moves and stops workers.

The main process keeps every listening socket, so the connections in the queue of a worker that ended are answered by
the replacement.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from pareta_agent import processes
from pareta_agent.engine.replica.restart_policy import GiveUp, decide, failures_after
from pareta_agent.engine.spec import RestartSettings
from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.downstream.tls import Certificate
from pareta_agent.gateway.workers import worker_messages
from pareta_agent.gateway.workers.main_side import Welcome, WorkerSession
from pareta_agent.gateway.workers.worker_slot import GRACE_S, WorkerSlot
from pareta_agent.ipc.message_table import TypedMessage
from pareta_agent.telemetry.events import Event

RESTARTS: Final = RestartSettings(first_delay_s=0.1, max_delay_s=1.0, budget=10, healthy_s=5.0)
BEGIN_S: Final = 30.0
SHOW_S: Final = 0.1
SCRAPE_S: Final = 1.0


class WorkerSupervisor:
    """`tunnel` serves a worker's connection in this process; `listen` takes over a listener that has no worker left."""

    def __init__(
        self,
        context: GatewayContext,
        size: int,
        certificate: Certificate | None,
        tunnel: Welcome,
        listen: Callable[[socket.socket], Awaitable[None]],
    ) -> None:
        self._context, self._size, self._certificate = context, size, certificate
        self._tunnel, self._listen = tunnel, listen
        self._slots: list[WorkerSlot] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = self._leaving = self._lame = False
        context.deps.keys.listen(lambda revision: self._send(worker_messages.KeysRevised(revision)))

    @property
    def open(self) -> int:
        return sum(slot.session.open for slot in self._slots if slot.session)

    @property
    def connections(self) -> int:
        return sum(slot.session.connections for slot in self._slots if slot.session)

    def view(self) -> list[dict[str, Any]]:
        """For `pareta-agent status`."""
        return [slot.view() for slot in self._slots]

    def impaired(self) -> list[str]:
        """The workers that are given up, as sentences for `/readyz`."""
        return [
            f"front worker {slot.number}: {slot.given_up}; others answer for it until this node starts anew"
            for slot in self._slots
            if slot.given_up
        ]

    async def start(self, listeners: list[socket.socket]) -> None:
        """Starts every worker, each with at least one socket. All listen once each is up or `BEGIN_S` has passed.

        Until then no worker has a caller, so a hand-over to this agent can still be taken back.
        """
        loop = asyncio.get_running_loop()
        self._slots = [WorkerSlot(number, listeners[number :: self._size]) for number in range(self._size)]
        self._tasks = [loop.create_task(self._keep(slot)) for slot in self._slots]
        self._tasks.append(loop.create_task(self._show()))
        await asyncio.wait({loop.create_task(slot.tried.wait()) for slot in self._slots}, timeout=BEGIN_S)
        self._listening = True
        for session in self._up():
            session.send(worker_messages.ListenOn())

    def welcome(self, sock: socket.socket) -> bool:
        """Passes a connection to a random worker; False where none is up."""
        if self._leaving or not (sessions := self._up()):
            return False
        random.choice(sessions).send(worker_messages.ServeConnection(), [sock.detach()])
        return True

    async def move(self) -> bool:
        """Stops the workers' listeners and moves idle connections; whether none is left. Restarts no worker."""
        self._leaving = True
        return all(await self._request(worker_messages.MoveConnections, deadline_s=GRACE_S))

    def lame_duck(self) -> None:
        """Makes each answer of the workers the last on the connection."""
        self._lame = True
        for session in self._up():
            session.send(worker_messages.EnterLameDuck())

    def reread(self) -> None:
        self._send(worker_messages.RereadCertificate())

    async def scrape(self) -> None:
        """Returns once each worker has sent all counts."""
        await self._request(worker_messages.ReportCounts, deadline_s=SCRAPE_S)

    async def drain(self, deadline_s: float) -> int:
        """Lets the workers' requests finish; the number that was cut at the deadline."""
        self._leaving = True
        cut = await self._request(worker_messages.DrainRequests, deadline_s, deadline_s=deadline_s + GRACE_S)
        return sum(each or 0 for each in cut)

    async def stop(self) -> None:
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._send(worker_messages.StopWorker())
        for slot in self._slots:
            await slot.end()
        for slot in self._slots:
            for listener in slot.listeners:
                listener.close()

    async def _keep(self, slot: WorkerSlot) -> None:
        """Runs worker after worker until the supervisor stops or the restart budget is spent."""
        failures, clock = 0, self._context.deps.clock
        while True:
            began_s = clock.mono_s()
            reason = await self._run_one(slot)
            if self._leaving:
                return
            self._count_up()
            failures = failures_after(failures, clock.mono_s() - began_s, RESTARTS)
            next_ = decide(failures, reason, permanent=False, draw=random.random(), settings=RESTARTS)
            if isinstance(next_, GiveUp):
                await self._give_up(slot, next_.reason)
                return
            slot.restarts += 1
            await clock.sleep(next_.delay_s)

    async def _run_one(self, slot: WorkerSlot) -> str:
        """Runs a worker from start to end; returns the reason of the end."""
        if self._leaving:
            return "nobody is wanted any more"
        try:
            await self._start_one(slot)
        except OSError as error:  # no descriptor, no memory, no interpreter: all of that may come back
            slot.tried.set()
            reason = f"it could not be started ({error.strerror or error})"
            fields = {"worker": slot.number, "reason": reason}
            self._context.deps.emit(Event("front_worker_not_started", "error", fields))
            return reason
        await slot.ended.wait()
        assert slot.process is not None
        if status := await slot.process.wait():
            fields = {"worker": slot.number, "pid": slot.process.pid, "status": status}
            self._context.deps.emit(Event("front_worker_ended", "error", fields))
        return "it ended"

    async def _start_one(self, slot: WorkerSlot) -> None:
        """Starts a worker; returns once the worker is up or has failed. Raises OSError where no process could start."""
        slot.ended.clear()
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as unless_spawned:
            unless_spawned.enter_context(ours)
            listeners = [unless_spawned.enter_context(each.dup()) for each in slot.listeners]
            slot.process = await processes.spawn(
                [sys.executable, "-P", "-m", "pareta_agent.gateway.worker_main"],
                env=processes.environment(),
                stdin_fd=theirs.fileno(),
                share_output=True,
                die_with_parent=True,
            )
            unless_spawned.pop_all()
        slot.session = session = WorkerSession(self._context, ours, self._tunnel, lambda: self._ended(slot))
        session.send(self._begin(), [each.detach() for each in listeners])
        session.show(self._context.deps.fleet_view())
        up = asyncio.ensure_future(session.up.wait())
        gone = asyncio.ensure_future(slot.ended.wait())
        await asyncio.wait({up, gone}, timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        gone.cancel()
        if not session.up.is_set():
            await slot.process.kill_group()
        elif self._listening and not self._leaving:
            session.send(worker_messages.ListenOn())
        if session.up.is_set() and self._lame:
            session.send(worker_messages.EnterLameDuck())
        slot.tried.set()
        self._count_up()

    def _ended(self, slot: WorkerSlot) -> None:
        slot.session = None
        slot.ended.set()

    def _begin(self) -> worker_messages.BeginWorker:
        settings = self._context.settings
        shared = replace(settings, workers=0, max_uploads_bytes=settings.max_uploads_bytes // self._size)
        files = None if self._certificate is None else [str(each) for each in self._certificate.files]
        return worker_messages.BeginWorker(shared, self._context.deps.secret.hex(), files)

    async def _give_up(self, slot: WorkerSlot, reason: str) -> None:
        """Passes the slot's listeners to another worker, or to this process."""
        slot.given_up = reason
        fields = {"worker": slot.number, "reason": reason}
        self._context.deps.emit(Event("front_worker_given_up", "error", fields))
        survivor = next((other for other in self._slots if other.up), None)
        for listener in slot.listeners:
            if survivor is None or not survivor.take_listener(listener):
                await self._listen(listener)
        slot.listeners = []

    async def _show(self) -> None:
        while True:
            fleet = self._context.deps.fleet_view()
            for slot in self._slots:
                if slot.session is not None:
                    slot.session.show(fleet)
            await asyncio.sleep(SHOW_S)

    def _count_up(self) -> None:
        self._context.deps.metrics.set("pareta_front_workers", sum(1 for slot in self._slots if slot.up))

    def _send(self, message: TypedMessage) -> None:
        for slot in self._slots:
            if slot.session is not None:
                slot.session.send(message)

    async def _request(
        self, command: Callable[..., TypedMessage], *values: float, deadline_s: float
    ) -> list[Any]:
        waits = (each.request(command, *values, deadline_s=deadline_s) for each in self._up())
        return await asyncio.gather(*waits)

    def _up(self) -> list[WorkerSession]:
        return [session for slot in self._slots if (session := slot.up)]

"""The workers of a front: started, replaced where they end, told what they must know, drained or handed over, ended.

The main process keeps every listening socket, so that what waits in the queue of a worker that ended is answered by
the next one.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from pareta_agent import launch
from pareta_agent.engine.restart import GiveUp, decide, failures_after
from pareta_agent.engine.spec import RestartSettings
from pareta_agent.front.desk import GatewayContext
from pareta_agent.front.hand import Hand, Welcome
from pareta_agent.front.tls import Certificate
from pareta_agent.telemetry.events import Event

RESTARTS: Final = RestartSettings(first_delay_s=0.1, max_delay_s=1.0, budget=10, healthy_s=5.0)
BEGIN_S: Final = 30.0
SHOW_S: Final = 0.1
SCRAPE_S: Final = 1.0
GRACE_S: Final = 2.0


@dataclass(slots=True, eq=False)
class Seat:
    """One worker's place: who sits there now, and the listeners that are its."""

    number: int
    listeners: list[socket.socket]
    hand: Hand | None = None
    process: launch.Process | None = None
    restarts: int = 0
    given_up: str | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def up(self) -> Hand | None:
        return self.hand if self.hand is not None and self.hand.up.is_set() else None


class Crew:
    """`tunnel` serves a worker's connection here; `listen` takes a listener over that no worker is left for."""

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
        self._seats: list[Seat] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = self._leaving = self._lame = False
        context.deps.keys.listen(lambda revision: self._say("revise", revision))

    @property
    def open(self) -> int:
        return sum(seat.hand.open for seat in self._seats if seat.hand)

    @property
    def connections(self) -> int:
        return sum(seat.hand.connections for seat in self._seats if seat.hand)

    def view(self) -> list[dict[str, Any]]:
        """For `pareta-agent status`."""
        return [
            {
                "pid": seat.process.pid if seat.process and seat.hand else None,
                "state": "given up" if seat.given_up else "up" if seat.up else "starting",
                "open": seat.hand.open if seat.hand else 0,
                "connections": seat.hand.connections if seat.hand else 0,
                "restarts": seat.restarts,
            }
            for seat in self._seats
        ]

    def impaired(self) -> list[str]:
        """What of it is lost for good, in words for `/readyz`."""
        return [
            f"front worker {seat.number}: {seat.given_up}; others answer for it until this node starts anew"
            for seat in self._seats
            if seat.given_up
        ]

    async def start(self, listeners: list[socket.socket]) -> None:
        """All listen, on at least one socket each, once each is up or was given time enough: until then none of them
        has a caller, so that another agent of this home may go on in this one's place."""
        loop = asyncio.get_running_loop()
        self._seats = [Seat(number, listeners[number :: self._size]) for number in range(self._size)]
        self._tasks = [loop.create_task(self._keep(seat)) for seat in self._seats]
        self._tasks.append(loop.create_task(self._show()))
        await asyncio.wait({loop.create_task(seat.tried.wait()) for seat in self._seats}, timeout=BEGIN_S)
        self._listening = True
        for hand in self._up():
            hand.say("listen")

    def welcome(self, sock: socket.socket) -> bool:
        """Gives a connection to one of the workers; False where there is none for it."""
        if self._leaving or not (hands := self._up()):
            return False
        random.choice(hands).say("connection", descriptors=[sock.detach()])
        return True

    async def move(self) -> bool:
        """The workers listen no more and give away what they can; whether they have nothing left. None is replaced."""
        self._leaving = True
        return all(await self._ask("move", deadline_s=GRACE_S))

    def lame_duck(self) -> None:
        """Each answer of theirs is the last on its connection."""
        self._lame = True
        for hand in self._up():
            hand.say("lame_duck")

    def reread(self) -> None:
        self._say("reread")

    async def scrape(self) -> None:
        """Until each worker has told what it counted."""
        await self._ask("scrape", deadline_s=SCRAPE_S)

    async def drain(self, deadline_s: float) -> int:
        """Lets the workers' calls finish; how many had to be cut."""
        self._leaving = True
        cut = await self._ask("drain", deadline_s, deadline_s=deadline_s + GRACE_S)
        return sum(each or 0 for each in cut)

    async def stop(self) -> None:
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._say("stop")
        for seat in self._seats:
            await self._end(seat)
        for seat in self._seats:
            for listener in seat.listeners:
                listener.close()

    async def _end(self, seat: Seat) -> None:
        if seat.process is None:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                await seat.process.wait()
        except TimeoutError:
            await seat.process.kill_group()
        if seat.hand is not None:
            seat.hand.close()

    async def _keep(self, seat: Seat) -> None:
        """Fills a seat until the crew leaves or its budget is spent."""
        failures, clock = 0, self._context.deps.clock
        while True:
            began_s = clock.mono_s()
            reason = await self._sit(seat)
            if self._leaving:
                return
            self._count_up()
            failures = failures_after(failures, clock.mono_s() - began_s, RESTARTS)
            next_ = decide(failures, reason, permanent=False, draw=random.random(), settings=RESTARTS)
            if isinstance(next_, GiveUp):
                await self._give_up(seat, next_.reason)
                return
            seat.restarts += 1
            await clock.sleep(next_.delay_s)

    async def _sit(self, seat: Seat) -> str:
        """One worker, from its start to its end; the reason of that."""
        if self._leaving:
            return "nobody is wanted any more"
        try:
            await self._fill(seat)
        except OSError as error:  # no descriptor, no memory, no interpreter: all of that may come back
            seat.tried.set()
            reason = f"it could not be started ({error.strerror or error})"
            fields = {"worker": seat.number, "reason": reason}
            self._context.deps.emit(Event("front_worker_not_started", "error", fields))
            return reason
        await seat.ended.wait()
        assert seat.process is not None
        if status := await seat.process.wait():
            fields = {"worker": seat.number, "pid": seat.process.pid, "status": status}
            self._context.deps.emit(Event("front_worker_ended", "error", fields))
        return "it ended"

    async def _fill(self, seat: Seat) -> None:
        """Returns once the worker is up, or will not be. Raises OSError when there is none."""
        seat.ended.clear()
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as unless_spawned:
            unless_spawned.enter_context(ours)
            listeners = [unless_spawned.enter_context(each.dup()) for each in seat.listeners]
            seat.process = await launch.spawn(
                [sys.executable, "-P", "-m", "pareta_agent.front.worker"],
                env=launch.environment(),
                stdin_fd=theirs.fileno(),
                share_output=True,
                die_with_parent=True,
            )
            unless_spawned.pop_all()
        seat.hand = hand = Hand(self._context, ours, self._tunnel, lambda: self._ended(seat))
        hand.say("begin", self._brief(), descriptors=[each.detach() for each in listeners])
        hand.show(self._context.deps.fleet_view())
        up = asyncio.ensure_future(hand.up.wait())
        gone = asyncio.ensure_future(seat.ended.wait())
        await asyncio.wait({up, gone}, timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        gone.cancel()
        if not hand.up.is_set():
            await seat.process.kill_group()
        elif self._listening and not self._leaving:
            hand.say("listen")
        if hand.up.is_set() and self._lame:
            hand.say("lame_duck")
        seat.tried.set()
        self._count_up()

    def _ended(self, seat: Seat) -> None:
        seat.hand = None
        seat.ended.set()

    def _brief(self) -> dict[str, Any]:
        settings = self._context.settings
        shared = replace(settings, workers=0, max_uploads_bytes=settings.max_uploads_bytes // self._size)
        certificate = self._certificate
        return {
            "settings": asdict(shared),
            "secret": self._context.deps.secret.hex(),
            "certificate": None if certificate is None else [str(each) for each in certificate.files],
        }

    async def _give_up(self, seat: Seat, reason: str) -> None:
        """What it listened to goes to a worker that is left, or is listened to here."""
        seat.given_up = reason
        fields = {"worker": seat.number, "reason": reason}
        self._context.deps.emit(Event("front_worker_given_up", "error", fields))
        heir = next((other for other in self._seats if other.up), None)
        for listener in seat.listeners:
            if heir is None or not _told_to_listen(heir, listener):
                await self._listen(listener)
        seat.listeners = []

    async def _show(self) -> None:
        while True:
            fleet = self._context.deps.fleet_view()
            for seat in self._seats:
                if seat.hand is not None:
                    seat.hand.show(fleet)
            await asyncio.sleep(SHOW_S)

    def _count_up(self) -> None:
        self._context.deps.metrics.set("pareta_front_workers", sum(1 for seat in self._seats if seat.up))

    def _say(self, *message: Any) -> None:
        for seat in self._seats:
            if seat.hand is not None:
                seat.hand.say(*message)

    async def _ask(self, kind: str, *said: Any, deadline_s: float) -> list[Any]:
        return await asyncio.gather(*(h.ask(kind, *said, deadline_s=deadline_s) for h in self._up()))

    def _up(self) -> list[Hand]:
        return [hand for seat in self._seats if (hand := seat.up)]


def _told_to_listen(seat: Seat, listener: socket.socket) -> bool:
    """False where nobody sits there any more, or this process has no descriptor left to pass on."""
    try:
        copy = listener.dup()
    except OSError:
        return False
    with copy:
        if seat.up is None:
            return False
        seat.up.say("listen", descriptors=[copy.detach()])
    seat.listeners.append(listener)
    return True

"""The agent that this one takes over from: asks for what it holds, then does for it what only one agent may do.

Until it has answered its last request it sends its records here; where it dies, what it left open is closed as crashed.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pareta_agent.engine.view import FleetView
from pareta_agent.errors import AgentError, HostError
from pareta_agent.meter.record import Admission, Outcome, UsageRecord
from pareta_agent.node.demand import Borrowed
from pareta_agent.node.line import Line, Message, dial
from pareta_agent.node.rooms import Rooms
from pareta_agent.telemetry.events import Emit, Event

FILE = "heir.sock"
ANSWER_S = 30.0
LEASE_S = 5.0
_ADMISSION = TypeAdapter(Admission)
_RECORD = TypeAdapter(UsageRecord)


class Elder:
    """`call`, `take`, `taken`, `serve`, in this order; `serving` is said when this agent answers callers."""

    def __init__(self, line: Line, emit: Emit) -> None:
        self._line, self._emit = line, emit
        self._open: dict[str, Admission] = {}
        self.borrowed = Borrowed()
        self._told: list[Collection[str] | None] = []
        self._known: Collection[str] | None = None
        self._welcome: Callable[[socket.socket], None] | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self.gone = False

    @classmethod
    async def call(cls, run_dir: Path, emit: Emit) -> Elder | None:
        """None where no agent of this home runs."""
        line = await dial(run_dir / FILE)
        return None if line is None else cls(line, emit)

    async def take(self) -> list[socket.socket]:
        """Asks for everything; the listening sockets. From here on the other one writes no more."""
        self._line.send("hello")
        message = await self._next("take")
        return [socket.socket(fileno=each) for each in message.descriptors]

    async def taken(self, inherited: tuple[Admission, ...]) -> None:
        """Says that its records are in this agent's hands; raises HostError when the other one thought better of it."""
        self._open = {each.request_id: each for each in inherited}
        self._line.send("taken")
        self.borrowed.load = Counter((await self._next("yours")).body)

    def unaware(self, replica: str) -> bool:
        """Whether the other one may still send requests there: it has not said that it knows better."""
        return not self.gone and (self._known is None or replica in self._known)

    def serving(self, welcome: Callable[[socket.socket], None]) -> None:
        """This agent answers now: connections may come."""
        self._welcome = welcome
        self._line.send("serving")

    async def serve(self, rooms: Rooms) -> None:
        """Until the other one has nothing left, or is gone."""
        rooms.fleet.adoptable.unaware = self.unaware
        showing = asyncio.create_task(self._show(rooms))
        try:
            while (message := await self._line.receive()) is not None and message.kind != "bye":
                self._hear(message, rooms)
            if message is not None:
                for org, left in message.body.items():
                    rooms.book.refund(org, *left)
        finally:
            showing.cancel()
            self._line.close()
            self.borrowed.load.clear()
            self.borrowed.waiting.clear()
            self.gone = True
        crashed = [
            rooms.spool.finish(UsageRecord(a, Outcome.AGENT_CRASH, "none")) for a in self._open.values()
        ]
        self._open.clear()
        fields = {"clean": message is not None, "crashed": len(crashed)}
        self._emit(Event("predecessor_left", "info" if fields["clean"] else "warning", fields))
        await asyncio.gather(*crashed, return_exceptions=True)

    def _hear(self, message: Message, rooms: Rooms) -> None:
        match message.kind:
            case "admit":
                admission = _ADMISSION.validate_python(message.body)
                self._open[admission.request_id] = admission
                rooms.spool.admit(admission)
            case "finish":
                number, body = message.body
                record = _RECORD.validate_python(body)
                self._open.pop(record.admission.request_id, None)
                done = rooms.spool.finish(record)
                done.add_done_callback(lambda done: self._finished(number, done))
            case "lease":
                answer = asyncio.create_task(self._lease(message.body[0], message.body[1], rooms))
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)
            case "wake":
                rooms.wake(message.body)
            case "load":
                self.borrowed.load = Counter(message.body)
            case "waiting":
                self.borrowed.waiting = Counter(message.body)
            case "looked":
                number, load = message.body
                self._known, self.borrowed.load = self._told[number], Counter(load)
            case "connection" if self._welcome is not None:
                self._welcome(socket.socket(fileno=message.descriptors[0]))

    def _finished(self, number: int, done: asyncio.Future[None]) -> None:
        """A record that could not be written is not answered: the spool's guard ends this agent."""
        if not done.cancelled() and done.exception() is None:
            self._line.send("answer", [number, None])

    async def _lease(self, number: int, asked: tuple[str, int], rooms: Rooms) -> None:
        try:
            async with asyncio.timeout(LEASE_S):
                await rooms.registered.wait()  # credit is leased under this agent's epoch
                lease = await rooms.lease(*asked)
        except (AgentError, TimeoutError):
            self._line.send("answer", [number, None])
            return
        self._line.send("answer", [number, [lease.granted_micro_usd, lease.expires_s]])

    async def _show(self, rooms: Rooms) -> None:
        """Tells the other one of the engines, for the callers that it still has."""
        revision = 0
        while True:
            kept = sorted(rooms.fleet.kept) if rooms.fleet.reaped else None
            admits = rooms.records.can_admit() if rooms.registered.is_set() else rooms.spool.can_admit()
            self._tell(rooms.fleet.view(), kept, admits)
            try:
                async with asyncio.timeout(1.0):
                    revision = await rooms.fleet.changed(revision)
            except TimeoutError:
                continue

    def _tell(self, view: FleetView, kept: Collection[str] | None, admits: bool) -> None:
        """What to serve from; and a number, which comes back once the other one goes by it."""
        self._line.send("fleet", [view, kept, admits])
        if not self._told or self._told[-1] != kept:
            self._line.send("look", len(self._told))
            self._told.append(kept)

    async def _next(self, kind: str) -> Message:
        """Raises HostError `upgrade_refused` when it says no, hangs up, or is silent."""
        message: Message | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                message = await self._line.receive()
        except TimeoutError:
            pass
        if message is None or message.kind != kind:
            self._line.close()
            said: Any = message.body if message is not None else "it does not answer"
            raise HostError(
                "upgrade_refused",
                f"the running agent goes on: {said}",
                "try again, or stop it and start anew",
            )
        return message

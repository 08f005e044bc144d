"""The agent that takes over, as the one before it uses it: keeps its records, leases its credit, shows it the fleet.

It speaks over a line and holds no rule of its own; `succession` knows when.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from pareta_agent.access.credit import GrantedLease
from pareta_agent.engine.view import FleetView
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.meter.record import Admission, UsageRecord
from pareta_agent.node.line import Line, Message

FLEET = TypeAdapter(FleetView)
KEPT = TypeAdapter(frozenset[str] | None)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """`admitted` since the other agent took over and not known to be closed; `records` with who waits for each."""

    admitted: tuple[Admission, ...]
    records: list[tuple[UsageRecord, asyncio.Future[Any]]]


@dataclass(slots=True)
class Heir:
    """`hear` must be given every message of the line but the first, and `lost` called at its end. `loads`: the requests
    that this agent has at each replica; `waiting`: the calls that wait here for each endpoint."""

    line: Line
    loads: Callable[[], Mapping[str, int]] = dict
    waiting: Callable[[], Mapping[str, int]] = dict
    fleet: FleetView = field(default_factory=lambda: FleetView(complete=False))
    kept: frozenset[str] | None = None
    admits: bool = True
    _told: Mapping[str, int] | None = None
    _told_waiting: Mapping[str, int] = field(default_factory=dict)
    _asked: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _number: int = 0
    _gone: bool = False
    _admitted: dict[str, Admission] = field(default_factory=dict)
    _records: dict[int, UsageRecord] = field(default_factory=dict)

    def begins(self, load: Mapping[str, int]) -> None:
        """Everything is its own now, but for the requests that this agent has at each replica: told at once, or it
        might end an engine of another make in their midst."""
        self.line.send("yours", load)

    def tell(self) -> None:
        """What this agent has at each replica by now, and who waits here, where the other one does not know it."""
        if (load := self.loads()) != self._told:
            self.line.send("load", load)
            self._told = load
        if (waiting := self.waiting()) != self._told_waiting:
            self.line.send("waiting", waiting)
            self._told_waiting = waiting

    # a spool, as the front knows it

    def can_admit(self) -> bool:
        return self.admits and not self._gone

    def admit(self, admission: Admission) -> None:
        self._admitted[admission.request_id] = admission
        self.line.send("admit", admission)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        """Done once the other agent has it on disk; raises HostError when it is gone."""
        future = self._ask("finish", record)
        if not future.done():
            self._records[self._number] = record
        return future

    def unanswered(self) -> Unanswered:
        """What the other one may or may not have on disk. It is gone, and this agent goes on in its place."""
        records = [(record, self._asked.pop(number)) for number, record in self._records.items()]
        self.lost()
        return Unanswered(tuple(self._admitted.values()), records)

    # the rest

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        try:
            told = await self._ask("lease", [org, micro_usd])
        except HostError as error:
            raise PlaneError(error.code, error.message) from error
        if told is None:
            raise PlaneError("plane_away", "the control plane grants no credit right now")
        return GrantedLease(*told)

    def wake(self, endpoint: str) -> None:
        self.tell()  # who waits is known there before what they wait for wakes
        self.line.send("wake", endpoint)

    def take(self, connection: socket.socket) -> None:
        self.line.send("connection", descriptors=[connection.detach()])

    def hear(self, message: Message) -> None:
        match message.kind:
            case "answer":
                number, told = message.body
                if (record := self._records.pop(number, None)) is not None:
                    self._admitted.pop(record.admission.request_id, None)
                if not (asked := self._asked.pop(number)).done():
                    asked.set_result(told)
            case "fleet":
                view, kept, self.admits = message.body
                self.fleet, self.kept = FLEET.validate_python(view), KEPT.validate_python(kept)
            case "look":
                self._told = self.loads()
                self.line.send("looked", [message.body, self._told])

    def lost(self) -> None:
        """Nobody will answer any more: what was asked fails, and what comes is refused."""
        self._gone = True
        self.line.close()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(_gone())
        self._asked.clear()

    def _ask(self, kind: str, body: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._gone:
            future.set_exception(_gone())
            return future
        self._number += 1
        self._asked[self._number] = future
        self.line.send(kind, [self._number, body])
        return future


def _gone() -> HostError:
    return HostError("successor_gone", "the agent that took over has ended", "start it again")

"""Successor: sends this agent's admissions, records and credit requests to the agent that replaces this agent.

`handover` decides the time; this module holds no rule of the hand-over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pareta_agent.access.credit import GrantedLease
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.ipc.link import Link, LinkMessage
from pareta_agent.ipc.message_table import TypedMessage
from pareta_agent.node.upgrade.messages import (
    TO_PREDECESSOR,
    AdmissionMade,
    ConfirmFleet,
    ConnectionPassed,
    FleetConfirmed,
    FleetOffered,
    LeaseCredit,
    LoadChanged,
    OwnershipPassed,
    RecordMade,
    RequestAnswered,
    WaitingChanged,
    WakeEndpoint,
    decode,
    send,
)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """`admitted` since the hand-over and not known to be closed; `records` with the future of each."""

    admitted: tuple[Admission, ...]
    records: list[tuple[UsageRecord, asyncio.Future[Any]]]


@dataclass(slots=True)
class Successor:
    """`receive` requires every message of the link but the first two; `lost` must be called at the link's end.

    `loads`: this agent's requests by replica; `waiting`: this agent's waiting requests by endpoint.
    """

    link: Link
    loads: Callable[[], Mapping[str, int]] = dict
    waiting: Callable[[], Mapping[str, int]] = dict
    fleet: FleetView = field(default_factory=lambda: FleetView(complete=False))
    kept: frozenset[str] | None = None
    admits: bool = True
    _sent_load: Mapping[str, int] | None = None
    _sent_waiting: Mapping[str, int] = field(default_factory=dict)
    _requests: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _number: int = 0
    _gone: bool = False
    _admitted: dict[str, Admission] = field(default_factory=dict)
    _records: dict[int, UsageRecord] = field(default_factory=dict)

    def pass_ownership(self, load: Mapping[str, int]) -> None:
        """Passes engines and credit, with the load: without the load the successor might end a busy engine of another
        configuration.
        """
        send(self.link, OwnershipPassed(load))

    def send_demand(self) -> None:
        """Sends the load and the waiting requests after a change."""
        if (load := self.loads()) != self._sent_load:
            send(self.link, LoadChanged(load))
            self._sent_load = load
        if (waiting := self.waiting()) != self._sent_waiting:
            send(self.link, WaitingChanged(waiting))
            self._sent_waiting = waiting

    # the gateway's spool

    def can_admit(self) -> bool:
        return self.admits and not self._gone

    def admit(self, admission: Admission) -> None:
        self._admitted[admission.request_id] = admission
        send(self.link, AdmissionMade(admission))

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        """Done once the successor has the record on disk; raises HostError when the successor is gone."""
        future = self._request(lambda number: RecordMade(number, record))
        if not future.done():
            self._records[self._number] = record
        return future

    def unanswered(self) -> Unanswered:
        """The admissions and records that the successor, which is gone, may or may not have on disk."""
        records = [(record, self._requests.pop(number)) for number, record in self._records.items()]
        self.lost()
        return Unanswered(tuple(self._admitted.values()), records)

    # further requests of the gateway

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        try:
            granted = await self._request(lambda number: LeaseCredit(number, (org, micro_usd)))
        except HostError as error:
            raise PlaneError(error.code, error.message) from error
        if granted is None:
            raise PlaneError("plane_away", "the control plane grants no credit right now")
        return GrantedLease(*granted)

    def wake(self, endpoint: str) -> None:
        self.send_demand()  # the waiting requests must be known there before their endpoint wakes
        send(self.link, WakeEndpoint(endpoint))

    def pass_connection(self, connection: socket.socket) -> None:
        send(self.link, ConnectionPassed(), [connection.detach()])

    def receive(self, message: LinkMessage) -> None:
        match decode(TO_PREDECESSOR, message):
            case RequestAnswered(number, result):
                if (record := self._records.pop(number, None)) is not None:
                    self._admitted.pop(record.admission.request_id, None)
                if not (request := self._requests.pop(number)).done():
                    request.set_result(result)
            case FleetOffered(fleet, kept, admits):
                self.fleet, self.admits = fleet, admits
                self.kept = None if kept is None else frozenset(kept)
            case ConfirmFleet(number):
                self._sent_load = self.loads()
                send(self.link, FleetConfirmed(number, self._sent_load))

    def lost(self) -> None:
        """Fails every open request, and refuses later requests."""
        self._gone = True
        self.link.close()
        for request in self._requests.values():
            if not request.done():
                request.set_exception(_gone())
        self._requests.clear()

    def _request(self, make: Callable[[int], TypedMessage]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._gone:
            future.set_exception(_gone())
            return future
        self._number += 1
        self._requests[self._number] = future
        send(self.link, make(self._number))
        return future


def _gone() -> HostError:
    return HostError("successor_gone", "the agent that took over has ended", "start it again")

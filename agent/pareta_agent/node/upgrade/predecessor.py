"""Predecessor: takes over from the running agent of this home, then writes its records and leases its credit.

The predecessor sends records here until the last request is answered. Open requests of a predecessor that dies earlier
are recorded as `agent_crash`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Admission, Outcome, UsageRecord
from pareta_agent.errors import AgentError, HostError
from pareta_agent.ipc.link import Link, LinkMessage
from pareta_agent.ipc.message_table import TypedMessage
from pareta_agent.node.sleep.demand import Borrowed
from pareta_agent.node.upgrade.handover_ports import TakeOverPort
from pareta_agent.node.upgrade.messages import (
    TO_SUCCESSOR,
    AdmissionMade,
    ConfirmFleet,
    ConnectionPassed,
    FleetConfirmed,
    FleetOffered,
    HandoverDone,
    LeaseCredit,
    LoadChanged,
    NowServing,
    OfferListeners,
    OwnershipPassed,
    RecordMade,
    RequestAnswered,
    RequestHandover,
    SpoolTaken,
    WaitingChanged,
    WakeEndpoint,
    decode,
    send,
)
from pareta_agent.node.upgrade.upgrade_socket import FILE, connect
from pareta_agent.telemetry.events import Emit, Event

ANSWER_S = 30.0
LEASE_S = 5.0


class Predecessor:
    """`call`, `take`, `taken`, `serve`, in this order; `serving` when this agent answers callers."""

    def __init__(self, link: Link, emit: Emit) -> None:
        self._link, self._emit = link, emit
        self._open: dict[str, Admission] = {}
        self.borrowed = Borrowed()
        self._sent: list[Collection[str] | None] = []
        self._confirmed: Collection[str] | None = None
        self._welcome: Callable[[socket.socket], None] | None = None
        self._leases: set[asyncio.Task[None]] = set()
        self.gone = False

    @classmethod
    async def call(cls, run_dir: Path, emit: Emit) -> Predecessor | None:
        """None where no agent of this home runs."""
        link = await connect(run_dir / FILE)
        return None if link is None else cls(link, emit)

    async def take(self) -> list[socket.socket]:
        """Requests the hand-over; the listening sockets. The predecessor has closed the spool by then."""
        send(self._link, RequestHandover())
        message = await self._next(OfferListeners)
        return [socket.socket(fileno=each) for each in message.descriptors]

    async def taken(self, inherited: tuple[Admission, ...]) -> None:
        """Confirms that this agent has the spool. Raises HostError where the predecessor goes on instead."""
        self._open = {each.request_id: each for each in inherited}
        send(self._link, SpoolTaken())
        passed: OwnershipPassed = decode(TO_SUCCESSOR, await self._next(OwnershipPassed))
        self.borrowed.load = Counter(passed.load)

    def may_use(self, replica: str) -> bool:
        """True until the predecessor confirms a fleet without the replica: requests may still arrive there."""
        return not self.gone and (self._confirmed is None or replica in self._confirmed)

    def serving(self, welcome: Callable[[socket.socket], None]) -> None:
        """Announces that this agent answers callers; `welcome` serves the predecessor's connections."""
        self._welcome = welcome
        send(self._link, NowServing())

    async def serve(self, node: TakeOverPort) -> None:
        """Returns once the predecessor has nothing left or is gone."""
        node.keep_while(self.may_use)
        sending = asyncio.create_task(self._send_fleets(node))
        done: HandoverDone | None = None
        try:
            while done is None and (message := await self._link.receive()) is not None:
                done = self._receive(message, node)
            if done is not None:
                for org, left in done.unspent.items():
                    node.refund(org, *left)
        finally:
            sending.cancel()
            self._link.close()
            self.borrowed.load.clear()
            self.borrowed.waiting.clear()
            self.gone = True
        crashed = [node.finish(UsageRecord(a, Outcome.AGENT_CRASH, "none")) for a in self._open.values()]
        self._open.clear()
        fields = {"clean": done is not None, "crashed": len(crashed)}
        self._emit(Event("predecessor_left", "info" if fields["clean"] else "warning", fields))
        await asyncio.gather(*crashed, return_exceptions=True)

    def _receive(self, message: LinkMessage, node: TakeOverPort) -> HandoverDone | None:
        """The last message, once it arrives."""
        match decode(TO_SUCCESSOR, message):
            case AdmissionMade(admission):
                self._open[admission.request_id] = admission
                node.admit(admission)
            case RecordMade(number, record):
                self._open.pop(record.admission.request_id, None)
                node.finish(record).add_done_callback(lambda done: self._finished(number, done))
            case LeaseCredit(number, amount):
                lease = asyncio.create_task(self._lease(number, amount, node))
                self._leases.add(lease)
                lease.add_done_callback(self._leases.discard)
            case WakeEndpoint(endpoint):
                node.wake(endpoint)
            case LoadChanged(load):
                self.borrowed.load = Counter(load)
            case WaitingChanged(waiting):
                self.borrowed.waiting = Counter(waiting)
            case FleetConfirmed(number, load):
                self._confirmed, self.borrowed.load = self._sent[number], Counter(load)
            case ConnectionPassed() if self._welcome is not None:
                self._welcome(socket.socket(fileno=message.descriptors[0]))
            case HandoverDone() as done:
                return done
        return None

    def _finished(self, number: int, done: asyncio.Future[None]) -> None:
        """Confirms a record on disk. A record that could not be written is not confirmed: the spool's guard ends this
        agent."""
        if not done.cancelled() and done.exception() is None:
            send(self._link, RequestAnswered(number, None))

    async def _lease(self, number: int, amount: tuple[str, int], node: TakeOverPort) -> None:
        try:
            async with asyncio.timeout(LEASE_S):
                await node.registered.wait()  # credit is leased under this agent's epoch
                lease = await node.lease(*amount)
        except (AgentError, TimeoutError):
            send(self._link, RequestAnswered(number, None))
            return
        send(self._link, RequestAnswered(number, [lease.granted_micro_usd, lease.expires_s]))

    async def _send_fleets(self, node: TakeOverPort) -> None:
        """Sends the fleet at every change and every second, for the predecessor's remaining callers."""
        revision = 0
        while True:
            self._send_fleet(*node.fleet_to_serve())
            try:
                async with asyncio.timeout(1.0):
                    revision = await node.fleet_changed(revision)
            except TimeoutError:
                continue

    def _send_fleet(self, view: FleetView, kept: Collection[str] | None, admits: bool) -> None:
        """Sends a fleet; where other replicas are kept than before, requests a confirmation of this fleet's number."""
        send(self._link, FleetOffered(view, kept, admits))
        if not self._sent or self._sent[-1] != kept:
            send(self._link, ConfirmFleet(len(self._sent)))
            self._sent.append(kept)

    async def _next(self, expected: type[TypedMessage]) -> LinkMessage:
        """Raises HostError `upgrade_refused` on any other message, at the link's end, and after `ANSWER_S`."""
        message: LinkMessage | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                message = await self._link.receive()
        except TimeoutError:
            pass
        if message is None or message.kind != expected.kind:
            self._link.close()
            reason: Any = message.body if message is not None else "no answer"
            raise HostError(
                "upgrade_refused",
                f"the running agent goes on: {reason}",
                "try again, or stop the running agent and start anew",
            )
        return message

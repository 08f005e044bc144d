"""Ownership: holds what one agent of a home owns alone (spool, engines, credit leases) and passes it in a hand-over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.control.credit_leases import CreditLeases
from pareta_agent.control.heartbeat import HeartbeatLoop
from pareta_agent.control.reconciler import Controller
from pareta_agent.engine.fleet import Fleet
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.meter.spool import Spool
from pareta_agent.node.sleep.wake import Activator
from pareta_agent.node.status.usage_audit import Auditor
from pareta_agent.node.upgrade.fleet_switch import FleetSwitch
from pareta_agent.node.upgrade.spool_switch import SpoolSwitch
from pareta_agent.node.upgrade.successor import Successor


@dataclass(slots=True)
class Ownership:
    """The node as `TakeOverPort` and `HandOverPort`. `registered` is set once the plane gave this agent an epoch."""

    registered: asyncio.Event
    fleet: Fleet
    fleet_switch: FleetSwitch
    spool: Spool
    spool_switch: SpoolSwitch
    front: Gateway
    book: CreditBook
    credit_leases: CreditLeases
    heart: HeartbeatLoop
    controller: Controller
    auditor: Auditor
    activator: Activator
    _successor: Successor | None = None

    # for a predecessor

    def keep_while(self, in_use: Callable[[str], bool]) -> None:
        self.fleet.adoptable.unaware = in_use

    def fleet_to_serve(self) -> tuple[FleetView, Sequence[str] | None, bool]:
        kept = sorted(self.fleet.kept) if self.fleet.reaped else None
        spool = self.spool_switch if self.registered.is_set() else self.spool
        return self.fleet.view(), kept, spool.can_admit()

    async def fleet_changed(self, since: int) -> int:
        return await self.fleet.changed(since)

    def admit(self, admission: Admission) -> None:
        self.spool.admit(admission)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        return self.spool.finish(record)

    def refund(self, org: str, micro_usd: int, expires_s: float) -> None:
        self.book.refund(org, micro_usd, expires_s)

    # for the gateway, and for a predecessor's gateway

    def wake(self, endpoint: str) -> None:
        (self._successor or self.activator).wake(endpoint)

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        """More credit for an org, from the plane or from the successor with the org's lease. Raises PlaneError."""
        if (successor := self._successor) is not None:
            try:
                return await successor.lease(org, micro_usd)
            except PlaneError:
                if self._successor is successor:
                    raise
        await self.registered.wait()
        return await self.credit_leases.lease(org, micro_usd)

    # to a successor

    async def end_epoch(self) -> None:
        """Writes the chain's last entry, unless the disk is full."""
        with contextlib.suppress(HostError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self.spool.end_epoch()

    async def release_spool(self) -> None:
        self.spool_switch.pause()
        await self.end_epoch()
        await asyncio.to_thread(self.spool.close)

    async def pass_engines(self, successor: Successor) -> None:
        self.fleet_switch.switch(lambda: successor.fleet, lambda: successor.kept)
        await self.fleet.leave()
        self._successor = successor
        self.book.drop()
        successor.pass_ownership(self.front.loads())
        self.spool_switch.resume(successor, successor.can_admit)

    async def take_back(self, successor: Successor | None) -> None:
        self._successor = None
        self.registered.clear()
        self.spool.reopen()
        if successor is not None:
            self.fleet_switch.switch(None, lambda: self.fleet.kept if self.fleet.reaped else None)
            self.controller.forget()
            self.auditor.forget()
            still_open = {each.request_id for each in self.spool.inherited}
            self.spool_switch.take_back(successor.unanswered(), still_open)
        self.spool_switch.resume(self.spool, self.heart.may_admit)
        if successor is not None:
            await self.fleet.reap_orphans()

    async def pass_connections(self, successor: Successor) -> None:
        await self.front.pass_on(successor.pass_connection, self.front.longest_s)

    def loads(self) -> Mapping[str, int]:
        return self.front.loads()

    def waiting(self) -> Mapping[str, int]:
        return self.front.in_line()

    def unspent(self) -> Mapping[str, tuple[int, float]]:
        return self.book.unspent()

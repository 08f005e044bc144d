"""Upgrade ports: the two interfaces through which a hand-over uses the node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pareta_agent.access.credit import GrantedLease
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.node.upgrade.successor import Successor


class TakeOverPort(Protocol):
    """The node of a successor, which works for its predecessor. `registered` is set once the plane gave an epoch."""

    registered: asyncio.Event

    def keep_while(self, in_use: Callable[[str], bool]) -> None:
        """Ends no engine of an earlier agent while `in_use` of its replica's name is true."""

    def fleet_to_serve(self) -> tuple[FleetView, Sequence[str] | None, bool]:
        """The fleet, the replicas that are kept (by name; None: all), and whether requests may be admitted."""

    async def fleet_changed(self, since: int) -> int:
        """Waits for a revision of the fleet after `since`."""

    def admit(self, admission: Admission) -> None: ...

    def finish(self, record: UsageRecord) -> asyncio.Future[None]: ...

    def wake(self, endpoint: str) -> None: ...

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        """Raises PlaneError."""

    def refund(self, org: str, micro_usd: int, expires_s: float) -> None: ...


class HandOverPort(Protocol):
    """The node of a predecessor, which passes everything on."""

    async def release_spool(self) -> None:
        """Ends the epoch and closes the spool; records wait from now on."""

    async def pass_engines(self, successor: Successor) -> None:
        """Serves the remaining requests from the successor's fleet, spool and credit."""

    async def take_back(self, successor: Successor | None) -> None:
        """Opens the spool again and, where the engines were passed to `successor`, takes the engines back."""

    async def pass_connections(self, successor: Successor) -> None:
        """Stops listening and passes each connection between two requests; returns when no request is open."""

    def loads(self) -> Mapping[str, int]:
        """Admitted requests by replica."""

    def waiting(self) -> Mapping[str, int]:
        """Waiting requests by endpoint."""

    def unspent(self) -> Mapping[str, tuple[int, float]]:
        """The remaining micro-USD and seconds of each org's lease."""

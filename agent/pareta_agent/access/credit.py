"""Credit: reserves an org's credit at admission from a lease of the plane, and accounts for the use at the end.

The tokens used stay deducted from the lease for good, since the debit is on the way to the plane. Only the rest of
the reservation returns. So a node cannot spend more than the plane granted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pareta_agent.clock import Clock
from pareta_agent.errors import PlaneError


@dataclass(frozen=True, slots=True)
class GrantedLease:
    """The plane's answer: `granted_micro_usd` more may be spent, within `expires_s` from now; 0 is a refusal."""

    granted_micro_usd: int
    expires_s: float


@dataclass(frozen=True, slots=True)
class CreditSettings:
    """A lease is requested in chunks, so that not every request needs the plane."""

    chunk_micro_usd: int = 100_000
    lease_timeout_s: float = 5.0
    refusal_ttl_s: float = 1.0


@dataclass(slots=True)
class _Held:
    """The unspent part of a lease, until the lease expires."""

    room_micro_usd: int = 0
    until_s: float = 0.0


@dataclass(slots=True)
class Reservation:
    """Credit held for one request; release once with `CreditBook.release`."""

    org: str
    micro_usd: int
    lease: _Held = field(default_factory=_Held)
    open: bool = True


@dataclass(slots=True)
class _Account:
    lease: _Held = field(default_factory=_Held)
    refused_until_s: float = float("-inf")
    waiting_micro_usd: int = 0
    asking: asyncio.Task[None] | None = None


class CreditBook:
    """Reservations by org; `lease(org, micro_usd)` requests credit, and raises PlaneError when the plane is away."""

    def __init__(
        self,
        lease: Callable[[str, int], Awaitable[GrantedLease]],
        clock: Clock,
        settings: CreditSettings = CreditSettings(),
    ) -> None:
        self._lease, self._clock, self._settings = lease, clock, settings
        self._accounts: dict[str, _Account] = {}

    def reserve(self, org: str, micro_usd: int) -> Reservation | None:
        """Returns a reservation from the lease at hand, without a request; None when too little is left."""
        if micro_usd == 0:
            return Reservation(org, 0)
        if (account := self._accounts.get(org)) is None:
            return None
        lease = account.lease
        if lease.room_micro_usd < micro_usd or self._clock.boot_s() >= lease.until_s:
            return None
        lease.room_micro_usd -= micro_usd
        return Reservation(org, micro_usd, lease)

    async def top_up(self, org: str, micro_usd: int) -> Reservation | None:
        """Returns a reservation, and requests a lease where needed; None when the plane grants too little: the
        caller's 402.

        Raises PlaneError when the plane is away and too little of the lease is left.
        """
        while (found := self.reserve(org, micro_usd)) is None:
            account = self._accounts.setdefault(org, _Account())  # a new epoch may have dropped the last one
            if self._clock.mono_s() < account.refused_until_s:
                return None
            account.waiting_micro_usd += micro_usd
            try:
                if account.asking is None:
                    account.asking = asyncio.ensure_future(self._ask(org, account))
                await asyncio.shield(account.asking)
            finally:
                account.waiting_micro_usd -= micro_usd
        return found

    def release(self, reservation: Reservation, used_micro_usd: int) -> None:
        """Ends a reservation.

        The reserved amount returns to the lease of the reservation. The used amount is taken from the present lease,
        as the plane does with the debit.
        """
        if reservation.open:
            reservation.open = False
            reservation.lease.room_micro_usd += reservation.micro_usd
            if (account := self._accounts.get(reservation.org)) is not None:
                account.lease.room_micro_usd -= used_micro_usd

    def extend(self, org: str, expires_s: float) -> None:
        """Extends the org's lease after the plane renewed the rest (heartbeat)."""
        if (account := self._accounts.get(org)) is not None:
            lease = account.lease
            lease.until_s = max(lease.until_s, self._clock.boot_s() + expires_s)

    def unspent(self) -> dict[str, tuple[int, float]]:
        """Returns the unspent amount and the remaining seconds of each lease, by org."""
        now_s = self._clock.boot_s()
        leases = ((org, account.lease) for org, account in self._accounts.items())
        return {
            org: (lease.room_micro_usd, lease.until_s - now_s)
            for org, lease in leases
            if now_s < lease.until_s and lease.room_micro_usd > 0
        }

    def refund(self, org: str, micro_usd: int, expires_s: float) -> None:
        """Adds the unspent part of the lease that another process returned."""
        self._accounts.setdefault(org, _Account()).lease.room_micro_usd += micro_usd
        self.extend(org, expires_s)

    def drop(self) -> None:
        """Drops every lease: a new epoch begins without leases. The unused part of an open reservation is lost."""
        self._accounts.clear()

    async def _ask(self, org: str, account: _Account) -> None:
        """Requests one lease for all waiting callers."""
        sent_s = self._clock.boot_s()
        try:
            async with asyncio.timeout(self._settings.lease_timeout_s):
                lease = await self._lease(org, max(account.waiting_micro_usd, self._settings.chunk_micro_usd))
        except TimeoutError:
            raise PlaneError("plane_slow", "the control plane did not grant credit in time") from None
        finally:
            account.asking = None
        if lease.granted_micro_usd == 0:
            account.refused_until_s = self._clock.mono_s() + self._settings.refusal_ttl_s
            return
        if sent_s >= account.lease.until_s:
            account.lease = _Held(min(account.lease.room_micro_usd, 0))
        account.lease.room_micro_usd += lease.granted_micro_usd
        account.lease.until_s = sent_s + lease.expires_s

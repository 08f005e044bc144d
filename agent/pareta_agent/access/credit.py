"""How much an org may still spend here: a lease from the plane, reserved at admission, settled at the end.

What a request really used is kept out of the lease for good, because its debit is on the way to the plane; only the
difference to the reservation returns. So a node can't spend more than it was granted.
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
    """A lease is asked for in chunks, so that the plane is not asked for each request."""

    chunk_micro_usd: int = 100_000
    lease_timeout_s: float = 5.0
    refusal_ttl_s: float = 1.0


@dataclass(slots=True)
class _Held:
    """What is left of what the plane lent, until it is the plane's again."""

    room_micro_usd: int = 0
    until_s: float = 0.0


@dataclass(slots=True)
class Reservation:
    """Credit held for one request; settle it once with `CreditBook.release`."""

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
    """Reservations by org; `lease(org, micro_usd)` asks the plane, raising PlaneError when it is away."""

    def __init__(
        self,
        lease: Callable[[str, int], Awaitable[GrantedLease]],
        clock: Clock,
        settings: CreditSettings = CreditSettings(),
    ) -> None:
        self._lease, self._clock, self._settings = lease, clock, settings
        self._accounts: dict[str, _Account] = {}

    def reserve(self, org: str, micro_usd: int) -> Reservation | None:
        """A reservation from the lease at hand, without asking anybody; None when it has no room."""
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
        """A reservation, leasing more where needed; None when the plane grants too little: the caller's 402.

        Raises PlaneError when the plane is away and the lease at hand has no room.
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
        """Settles a reservation: it returns to its own lease, what was used is taken from the present one, as the plane
        does with the debit."""
        if reservation.open:
            reservation.open = False
            reservation.lease.room_micro_usd += reservation.micro_usd
            if (account := self._accounts.get(reservation.org)) is not None:
                account.lease.room_micro_usd -= used_micro_usd

    def extend(self, org: str, expires_s: float) -> None:
        """The plane renewed what is left of the org's lease (heartbeat)."""
        if (account := self._accounts.get(org)) is not None:
            lease = account.lease
            lease.until_s = max(lease.until_s, self._clock.boot_s() + expires_s)

    def unspent(self) -> dict[str, tuple[int, float]]:
        """What is left of the leases, and for how many seconds, by org."""
        now_s = self._clock.boot_s()
        leases = ((org, account.lease) for org, account in self._accounts.items())
        return {
            org: (lease.room_micro_usd, lease.until_s - now_s)
            for org, lease in leases
            if now_s < lease.until_s and lease.room_micro_usd > 0
        }

    def refund(self, org: str, micro_usd: int, expires_s: float) -> None:
        """Part of the org's lease that was to be spent by others came back."""
        self._accounts.setdefault(org, _Account()).lease.room_micro_usd += micro_usd
        self.extend(org, expires_s)

    def drop(self) -> None:
        """Forgets every lease: a new epoch begins without any. What open reservations did not use returns to nobody."""
        self._accounts.clear()

    async def _ask(self, org: str, account: _Account) -> None:
        """Leases for everybody who waits; a crowd is one question."""
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

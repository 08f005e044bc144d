"""Credit leases: requests credit from the plane, and reports with each request the sum of the received grants.

A grant in a lost answer is reserved but not spendable. The reported sum lets the plane release such a grant; without
it the amount stays reserved for the node's lifetime. This module stores no lease; its caller spends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pareta_agent.access.credit import GrantedLease


@dataclass(slots=True)
class _Grants:
    """One org in one epoch. Requests run one at a time: the sum of received grants must be known before the next
    request.
    """

    received_micro_usd: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class CreditLeases:
    """`plane(epoch, org, micro_usd, heard_micro_usd)` raises PlaneError; `epoch` returns the node's present epoch."""

    def __init__(
        self, plane: Callable[[int, str, int, int], Awaitable[GrantedLease]], epoch: Callable[[], int]
    ) -> None:
        self._plane, self._epoch = plane, epoch
        self._grants: dict[tuple[int, str], _Grants] = {}

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        epoch = self._epoch()
        grants = self._grants.setdefault((epoch, org), _Grants())
        async with grants.lock:
            lease = await self._plane(epoch, org, micro_usd, grants.received_micro_usd)
            grants.received_micro_usd += lease.granted_micro_usd
            return lease

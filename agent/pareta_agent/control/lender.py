"""Asks the plane for credit, and tells it each time what it heard of what was granted before.

A grant whose answer got lost is set aside for nobody: unless the plane learns of that, it stays so for as long as the
node lives. It keeps no lease; who spends them is its caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pareta_agent.access.credit import GrantedLease


@dataclass(slots=True)
class _Line:
    """An org's in one epoch. One question at a time: what was heard must be known before the next."""

    heard_micro_usd: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class CreditLeases:
    """`plane(epoch, org, micro_usd, heard_micro_usd)` raises PlaneError; `epoch` is the node's present one."""

    def __init__(
        self, plane: Callable[[int, str, int, int], Awaitable[GrantedLease]], epoch: Callable[[], int]
    ) -> None:
        self._plane, self._epoch = plane, epoch
        self._lines: dict[tuple[int, str], _Line] = {}

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        epoch = self._epoch()
        line = self._lines.setdefault((epoch, org), _Line())
        async with line.lock:
            lease = await self._plane(epoch, org, micro_usd, line.heard_micro_usd)
            line.heard_micro_usd += lease.granted_micro_usd
            return lease

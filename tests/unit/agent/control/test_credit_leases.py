"""Credit whose answer got lost is not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pareta_agent.access.credit import CreditBook, CreditSettings, GrantedLease
from pareta_agent.control.credit_leases import CreditLeases
from pareta_agent.errors import PlaneError


class Plane:
    """Grants from a balance of 100 by what it is told was heard; `loses` so many answers first."""

    def __init__(self, loses: int = 0) -> None:
        self.granted, self.loses = 0, loses
        self.asked: list[tuple[int, int]] = []

    async def __call__(self, epoch: int, _org: str, micro_usd: int, heard_micro_usd: int) -> GrantedLease:
        self.asked.append((epoch, heard_micro_usd))
        await asyncio.sleep(0)
        granted = min(micro_usd, 100 - heard_micro_usd)
        self.granted = heard_micro_usd + granted
        if self.loses:
            self.loses -= 1
            raise PlaneError("plane_away", "cut")
        return GrantedLease(granted, 60.0)


async def test_a_lost_answer_does_not_cost_the_org_its_credit(clock: Any) -> None:
    """All there is was granted and nobody heard it: the next call is granted it again."""
    lender = CreditLeases(Plane(loses=1), lambda: 1)
    book = CreditBook(lender.lease, clock, CreditSettings(chunk_micro_usd=100))
    with pytest.raises(PlaneError):
        await book.top_up("org", 10)
    assert await book.top_up("org", 100) is not None


async def test_an_org_asks_one_question_at_a_time_and_counts_by_epoch() -> None:
    """What was heard is known before the next question; under a new epoch nothing was."""
    plane, epoch = Plane(), [7]
    lender = CreditLeases(plane, lambda: epoch[0])
    leases = await asyncio.gather(*(lender.lease("org", 40) for _ in range(3)))
    epoch[0] = 8
    await lender.lease("org", 40)
    assert [lease.granted_micro_usd for lease in leases] == [40, 40, 20]
    assert plane.asked == [(7, 0), (7, 40), (7, 80), (8, 0)]

"""Credit: a node spends at most the leased amount, to the micro-dollar."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.access.credit import CreditBook, CreditSettings, GrantedLease
from pareta_agent.clock import SystemClock
from pareta_agent.errors import PlaneError

ALWAYS = CreditSettings(chunk_micro_usd=100, refusal_ttl_s=1.0)


class Purse:
    """A plane that grants from a balance."""

    def __init__(self, balance: int) -> None:
        self.balance, self.granted, self.asked, self.away = balance, 0, 0, False

    async def __call__(self, _org: str, micro_usd: int) -> GrantedLease:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise PlaneError("plane_away", "away")
        granted = min(micro_usd, self.balance - self.granted)
        self.granted += granted
        return GrantedLease(granted, 60.0)


async def test_a_reservation_comes_from_the_lease_at_hand(clock: Any) -> None:
    """The first reservation requests a chunk from the plane, the next takes from the chunk."""
    purse = Purse(1000)
    book = CreditBook(purse, clock, ALWAYS)
    assert book.reserve("org", 30) is None
    assert await book.top_up("org", 30) is not None
    assert book.reserve("org", 70) is not None
    assert book.reserve("org", 1) is None
    assert purse.asked == 1


async def test_what_was_not_used_returns(clock: Any) -> None:
    """The use stays out of the lease, the rest returns; a second release changes nothing."""
    book = CreditBook(Purse(100), clock, ALWAYS)
    held = await book.top_up("org", 100)
    assert held is not None
    book.release(held, 40)
    book.release(held, 0)
    assert book.reserve("org", 61) is None
    assert book.reserve("org", 60) is not None


async def test_an_empty_balance_refuses_and_is_not_asked_again_at_once(clock: Any) -> None:
    """The plane grants the rest, then refuses; the refusal stands for a moment before the next request."""
    purse = Purse(10)
    book = CreditBook(purse, clock, ALWAYS)
    assert await book.top_up("org", 20) is None
    assert await book.top_up("org", 20) is None
    assert purse.asked == 2
    clock.now_s += 1.0
    purse.balance += 100
    assert await book.top_up("org", 20) is not None


async def test_a_lease_ends_with_its_time(clock: Any) -> None:
    """An expired lease grants nothing; a heartbeat extends a lease."""
    book = CreditBook(Purse(1000), clock, ALWAYS)
    await book.top_up("org", 10)
    clock.now_s += 50.0
    book.extend("org", 60.0)
    clock.now_s += 50.0
    assert book.reserve("org", 10) is not None
    clock.now_s += 11.0
    assert book.reserve("org", 10) is None


async def test_a_plane_that_is_away_is_no_refusal(clock: Any) -> None:
    """The caller receives 503, not 402; the lease at hand still grants."""
    purse = Purse(1000)
    book = CreditBook(purse, clock, ALWAYS)
    await book.top_up("org", 10)
    purse.away = True
    assert book.reserve("org", 90) is not None
    with pytest.raises(PlaneError):
        await book.top_up("org", 10)


async def test_a_crowd_that_can_pay_is_served_whole(clock: Any) -> None:
    """A hundred requests at once, each half a chunk, are all granted with a few requests to the plane."""
    purse = Purse(10_000)
    book = CreditBook(purse, clock, ALWAYS)
    held = await asyncio.gather(*(book.top_up("org", 50) for _ in range(100)))
    assert None not in held
    assert purse.asked <= 2


async def test_the_last_coins_are_lent_to_whom_they_suffice(clock: Any) -> None:
    """A lease below the requested sum serves the requests that fit; the rest are refused."""
    book = CreditBook(Purse(70), clock, ALWAYS)
    held = await asyncio.gather(*(book.top_up("org", micro_usd) for micro_usd in (50, 60, 20)))
    assert [each is not None for each in held] == [True, False, True]


async def test_a_free_request_needs_no_lease(clock: Any) -> None:
    """A price of zero requests no lease."""
    assert CreditBook(Purse(0), clock).reserve("org", 0) is not None


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), min_size=1, max_size=40), st.integers(0, 500))
def test_a_crowd_never_spends_more_than_the_balance(requests: list[tuple[int, float]], balance: int) -> None:
    """For any interleaving, the use stays within the granted amount."""

    async def concurrent_requests() -> int:
        book, used = CreditBook(Purse(balance), SystemClock(), ALWAYS), 0

        async def one(worst: int, share: float) -> None:
            nonlocal used
            if (held := await book.top_up("org", worst)) is not None:
                await asyncio.sleep(0)
                spent = int(worst * share)
                used += spent
                book.release(held, spent)

        await asyncio.gather(*(one(*request) for request in requests))
        return used

    assert asyncio.run(concurrent_requests()) <= balance


async def test_a_new_epoch_in_the_midst_of_asking_does_not_ask_for_ever(clock: Any) -> None:
    """The old epoch's grant is dropped; the new epoch requests a single further chunk."""
    purse = Purse(1000)
    book = CreditBook(purse, clock, ALWAYS)
    asking = asyncio.create_task(book.top_up("org", 30))
    await asyncio.sleep(0)
    book.drop()
    assert await asyncio.wait_for(asking, 60) is not None
    assert purse.asked == 2


async def test_what_an_earlier_epoch_lent_returns_to_nobody(clock: Any) -> None:
    """After a new epoch, only the use of a running call counts, against the lease that meets the debit."""
    book = CreditBook(Purse(1000), clock, ALWAYS)
    held = await book.top_up("org", 90)
    assert held is not None
    book.drop()
    assert await book.top_up("org", 10) is not None
    book.release(held, 20)
    assert book.unspent() == {"org": (100 - 10 - 20, 60.0)}


async def test_what_an_ended_lease_held_returns_to_nobody(clock: Any) -> None:
    """A reservation from an expired lease does not enlarge the next lease."""
    book = CreditBook(Purse(1000), clock, ALWAYS)
    held = await book.top_up("org", 90)
    assert held is not None
    clock.now_s += 61.0
    assert await book.top_up("org", 10) is not None
    book.release(held, 20)
    assert book.unspent() == {"org": (100 - 10 - 20, 60.0)}


async def test_what_others_did_not_spend_comes_back(clock: Any) -> None:
    """The predecessor returns the rest of the leases to the successor."""
    leaving, staying = CreditBook(Purse(100), clock, ALWAYS), CreditBook(Purse(100), clock, ALWAYS)
    for book in (leaving, staying):
        assert await book.top_up("org", 60) is not None
    assert leaving.unspent() == {"org": (40, 60.0)}
    staying.refund("org", 40, 60.0)
    assert staying.reserve("org", 80) is not None


async def test_what_comes_back_can_be_spent_by_who_had_leased_nothing(clock: Any) -> None:
    """With the whole balance leased, the successor spends the predecessor's rest."""
    purse = Purse(100)
    leaving, staying = CreditBook(purse, clock, ALWAYS), CreditBook(purse, clock, ALWAYS)
    assert await leaving.top_up("org", 60) is not None
    for org, left in leaving.unspent().items():
        staying.refund(org, *left)
    assert await staying.top_up("org", 40) is not None

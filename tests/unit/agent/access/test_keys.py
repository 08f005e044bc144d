"""Key cache: keys are introspected once, stored within the ttl, and introspected again or dropped on a revision."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from pareta_agent.access.keys import KeyCache, KeySettings
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.errors import PlaneError

GRANT = KeyGrant("org_a", "key_a", "active", ttl_s=60.0)


class Plane:
    """Answers introspections with `answer`; `away` makes each introspection fail."""

    def __init__(self, answer: KeyGrant | None = GRANT) -> None:
        self.answer, self.away, self.asked = answer, False, []

    async def __call__(self, sha256_hex: str) -> KeyGrant | None:
        self.asked.append(sha256_hex)
        await asyncio.sleep(0)
        if self.away:
            raise PlaneError("plane_away", "away")
        return self.answer


async def test_a_key_is_asked_for_by_hash_and_then_peeked(clock: Any) -> None:
    """The plane never receives the key; the second lookup sends nothing."""
    plane = Plane()
    cache = KeyCache(plane, clock)
    assert cache.peek("sk") is None
    assert await cache.grant("sk") == GRANT
    assert cache.peek(b"sk") == GRANT
    assert plane.asked == [hashlib.sha256(b"sk").hexdigest()]


async def test_a_grant_ends_with_its_ttl(clock: Any) -> None:
    """Past the ttl a grant is introspected again."""
    plane = Plane()
    cache = KeyCache(plane, clock)
    await cache.grant("sk")
    clock.now_s += 60.0
    assert cache.peek("sk") is None
    await cache.grant("sk")
    assert len(plane.asked) == 2


async def test_many_callers_ask_once(clock: Any) -> None:
    """Concurrent calls with a new key share one introspection."""
    plane = Plane()
    cache = KeyCache(plane, clock)
    assert await asyncio.gather(*(cache.grant("sk") for _ in range(50))) == [GRANT] * 50
    assert len(plane.asked) == 1


async def test_an_unknown_key_is_remembered_briefly(clock: Any) -> None:
    """An unknown key costs the plane one introspection every few seconds."""
    plane = Plane(None)
    cache = KeyCache(plane, clock)
    for _ in range(3):
        assert await cache.grant("guess") is None
    assert len(plane.asked) == 1
    clock.now_s += KeySettings().negative_ttl_s
    assert await cache.grant("guess") is None
    assert len(plane.asked) == 2


async def test_a_top_up_is_noticed_soon(clock: Any) -> None:
    """A `no_credit` answer stays valid for a moment only, whatever the ttl."""
    plane = Plane(KeyGrant("org_a", "key_a", "no_credit", ttl_s=600.0))
    cache = KeyCache(plane, clock)
    await cache.grant("sk")
    plane.answer = GRANT
    clock.now_s += KeySettings().no_credit_ttl_s
    assert await cache.grant("sk") == GRANT


async def test_a_known_key_outlives_the_plane_by_the_grace(clock: Any) -> None:
    """While the plane is away a known key is accepted for the grace, an unknown key never."""
    plane = Plane()
    cache = KeyCache(plane, clock, KeySettings(offline_grace_s=100.0))
    await cache.grant("sk")
    plane.away = True
    clock.now_s += 60.0 + 99.0
    assert await cache.grant("sk") == GRANT
    with pytest.raises(PlaneError):
        await cache.grant("other")
    clock.now_s += 2.0
    with pytest.raises(PlaneError):
        await cache.grant("sk")


async def test_a_revision_forgets_and_outruns_an_answer_on_its_way(clock: Any) -> None:
    """An answer from before a revocation is not stored afterwards."""
    plane = Plane()
    cache = KeyCache(plane, clock)
    cache.revise(1)
    asking = asyncio.create_task(cache.grant("sk"))
    while not plane.asked:
        await asyncio.sleep(0)
    cache.revise(2)
    assert await asking == GRANT
    assert cache.peek("sk") is None
    await cache.grant("sk")
    cache.revise(2)
    assert cache.peek("sk") == GRANT


async def test_a_revision_asks_again_and_keeps_what_was_not_withdrawn(clock: Any) -> None:
    """No caller waits for the second introspection; without an answer, the first stays valid until the ttl."""
    plane = Plane()
    cache = KeyCache(plane, clock, KeySettings(offline_grace_s=0.0))
    for key in ("sk", "gone"):
        await cache.grant(key)
    cache.revise(1, [hashlib.sha256(b"gone").hexdigest()])
    plane.away = True
    assert cache.peek("sk") is None
    assert [await cache.grant("sk") for _ in range(2)] == [GRANT, GRANT]
    assert (await cache.lookup(hashlib.sha256(b"sk").digest())) == (GRANT, 0.0)
    with pytest.raises(PlaneError):
        await cache.grant("gone")
    clock.now_s += 60.0
    with pytest.raises(PlaneError):
        await cache.grant("sk")
    plane.away = False
    assert await cache.grant("sk") == GRANT
    assert cache.peek("sk") == GRANT


async def test_a_key_is_refused_once_it_was_asked_for_again(clock: Any) -> None:
    """The second answer is valid from then on, also for callers that came during the introspection."""
    plane = Plane()
    cache = KeyCache(plane, clock)
    await cache.grant("sk")
    cache.revise(1, [])
    plane.answer = None
    assert await cache.grant("sk") == GRANT
    while len(plane.asked) < 2 or cache._asking:
        await asyncio.sleep(0)
    assert await cache.grant("sk") is None


async def test_what_was_no_grant_is_forgotten_by_any_revision(clock: Any) -> None:
    """An unknown key may have been minted, an org without credit may have been topped up."""
    for answer in (None, KeyGrant("org_a", "key_a", "no_credit", ttl_s=60.0)):
        plane = Plane(answer)
        cache = KeyCache(plane, clock)
        assert await cache.grant("sk") == answer
        cache.revise(1, [])
        plane.answer = GRANT
        assert await cache.grant("sk") == GRANT


async def test_a_key_withdrawn_while_it_is_asked_for_is_not_believed(clock: Any) -> None:
    """A revocation before the answer drops the key, even when the plane goes away."""
    plane = Plane()
    cache = KeyCache(plane, clock)
    await cache.grant("sk")
    clock.now_s += 60.0
    plane.away = True
    asking = asyncio.create_task(cache.grant("sk"))
    while len(plane.asked) < 2:
        await asyncio.sleep(0)
    cache.revise(1, [hashlib.sha256(b"sk").hexdigest()])
    with pytest.raises(PlaneError):
        await asking


async def test_the_cache_is_bounded(clock: Any) -> None:
    """New keys evict the oldest."""
    cache = KeyCache(Plane(), clock, KeySettings(max_keys=2))
    for key in ("a", "b", "c"):
        await cache.grant(key)
    assert [cache.peek(key) for key in ("a", "b", "c")] == [None, GRANT, GRANT]

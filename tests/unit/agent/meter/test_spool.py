"""The spool on a real file: durability, order, acks, recovery, room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pareta_agent.clock import SystemClock
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.meter.event import NO_HASH
from pareta_agent.meter.record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.meter.spool import Spool, SpoolSettings

Open = Callable[..., Spool]


def admission(request_id: str) -> Admission:
    return Admission(
        request_id, "org_a", "key_a", "ep_a", "task", "alias-1", "/v1/chat/completions", True, 1.7e9
    )


def record(request_id: str) -> UsageRecord:
    return UsageRecord(admission(request_id), Outcome.COMPLETED, "engine_final", Tokens(10, 2, 5), ("stop",))


@pytest.fixture
def spool_at(tmp_path: Path):
    opened: list[Spool] = []

    def make(name: str = "spool.db", **settings: object) -> Spool:
        spool = Spool.open(
            tmp_path / name, SpoolSettings("node-1", reserve_bytes=4096, **settings), SystemClock()
        )
        opened.append(spool)
        return spool

    yield make
    for spool in opened:
        spool.close()


async def test_a_finished_record_is_numbered_and_chained(spool_at: Open) -> None:
    """Records take the next sequence of the running epoch and chain to the one before."""
    spool = spool_at()
    await spool.begin_epoch(7)
    for name in ("a", "b"):
        spool.admit(admission(name))
        await spool.finish(record(name))
    entries = await spool.unacked(10)
    assert [(each.epoch, each.sequence) for each in entries] == [(7, 1), (7, 2), (7, 3)]
    assert [each.prev_hash for each in entries] == [NO_HASH, entries[0].hash, entries[1].hash]
    assert all(each.intact for each in entries)


async def test_records_before_the_first_epoch_follow_into_it(spool_at: Open) -> None:
    """What was staged while the plane was away is durable at once and numbered later."""
    spool = spool_at()
    await spool.finish(record("early"))
    assert (spool.stats().unacked, await spool.unacked(10)) == (1, [])
    await spool.begin_epoch(1)
    await spool.flush(5)
    assert [b'"request_id":"early"' in each.body for each in await spool.unacked(10)] == [False, True]


async def test_a_record_survives_close_and_open(spool_at: Open) -> None:
    """A reopened spool has the same entries and goes on in a new epoch."""
    spool = spool_at()
    await spool.begin_epoch(1)
    await spool.finish(record("a"))
    before = await spool.unacked(10)
    spool.close()
    again = spool_at()
    assert await again.unacked(10) == before
    with pytest.raises(PlaneError) as refused:
        await again.begin_epoch(1)
    assert refused.value.code == "epoch_not_new"


async def test_requests_left_open_become_agent_crash(spool_at: Open) -> None:
    """An admission without an end is closed by the next open."""
    spool = spool_at()
    await spool.begin_epoch(1)
    spool.admit(admission("lost"))
    await asyncio.sleep(0.02)
    await spool.flush(5)
    spool.close()
    again = spool_at()
    await again.begin_epoch(2)
    await again.flush(5)
    await again.ack(1, 1, (await again.unacked(1))[0].hash)
    bodies = [each.body for each in await again.unacked(10)]
    assert [b'"outcome":"agent_crash"' in body and b'"request_id":"lost"' in body for body in bodies] == [
        False,
        True,
    ]
    assert (again.stats().admitted, again.stats().terminal, again.stats().open) == (1, 1, 0)


async def test_an_ack_needs_the_right_hash(spool_at: Open) -> None:
    """A forged or foreign hash moves nothing."""
    spool = spool_at()
    await spool.begin_epoch(1)
    await spool.finish(record("a"))
    entries = await spool.unacked(10)
    assert await spool.ack(1, 2, NO_HASH) is False
    assert await spool.ack(1, 3, entries[1].hash) is False
    assert await spool.ack(2, 1, entries[0].hash) is False
    assert await spool.unacked(10) == entries
    assert await spool.ack(1, 2, entries[1].hash) is True
    assert await spool.unacked(10) == []


async def test_a_rewind_sends_acked_entries_again(spool_at: Open) -> None:
    """Acked entries are kept, so a plane restored from a backup gets them once more."""
    spool = spool_at()
    await spool.begin_epoch(1)
    await spool.finish(record("a"))
    entries = await spool.unacked(10)
    await spool.ack(1, 2, entries[1].hash)
    assert await spool.rewind(1, 2) == 2
    assert await spool.unacked(10) == entries[1:]
    assert await spool.rewind(1, 9) is None


async def test_a_second_agent_is_refused_by_pid(spool_at: Open) -> None:
    """Two writers would fork the chain."""
    spool_at()
    with pytest.raises(HostError, match=r"pid \d+") as refused:
        spool_at()
    assert refused.value.code == "spool_locked"


async def test_a_full_spool_stops_admission_and_still_records(spool_at: Open) -> None:
    """At 95 % of its limit nothing more is admitted, and what runs is still written."""
    spool = spool_at(max_bytes=10_000)
    assert spool.can_admit() is False
    await spool.finish(record("a"))
    assert spool.stats().terminal == 1


async def test_listeners_hear_only_growth(spool_at: Open) -> None:
    """An ack is no news for the uplink; a record is."""
    spool = spool_at()
    heard: list[int] = []
    await spool.begin_epoch(1)
    spool.listen(lambda: heard.append(1))
    await spool.finish(record("a"))
    await spool.ack(1, 1, (await spool.unacked(1))[0].hash)
    assert heard == [1]


async def test_the_counts_add_up(spool_at: Open) -> None:
    """admitted = terminal + open."""
    spool = spool_at()
    for name in ("a", "b", "c"):
        spool.admit(admission(name))
    await spool.finish(record("b"))
    stats = spool.stats()
    assert (stats.admitted, stats.terminal, stats.open) == (3, 1, 2)

"""Spool on a real file: durability, order, acknowledgements, recovery, disk budget."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_event import NO_HASH
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.meter.chain_check import verify
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.spool import Spool, SpoolSettings

FIRST_FORMAT = Path(__file__).parents[3] / "data" / "spool-format-1.db"
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
    """Records take the next sequence of the running epoch and chain to the previous entry."""
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
    """Staged records are durable at once and numbered in the next epoch."""
    spool = spool_at()
    await spool.finish(record("early"))
    assert (spool.stats().unacked, await spool.unacked(10)) == (1, [])
    await spool.begin_epoch(1)
    await spool.flush(60)
    assert [b'"request_id":"early"' in each.body for each in await spool.unacked(10)] == [False, True]


async def test_a_record_survives_close_and_open(spool_at: Open) -> None:
    """A reopened spool has the same entries and continues in a new epoch."""
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
    await spool.flush(60)
    spool.close()
    again = spool_at()
    await again.begin_epoch(2)
    await again.flush(60)
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


async def test_an_old_ack_takes_nothing_back(spool_at: Open) -> None:
    """An acknowledgement that arrives late moves nothing back."""
    spool = spool_at()
    await spool.begin_epoch(1)
    await spool.finish(record("a"))
    entries = await spool.unacked(10)
    for entry in reversed(entries):
        assert await spool.ack(1, entry.sequence, entry.hash) is True
    assert await spool.unacked(10) == []


async def test_readers_may_crowd(spool_at: Open) -> None:
    """Concurrent reads on threads share a connection, which takes turns, and return the same entries."""
    spool = spool_at()
    await spool.begin_epoch(1)
    await asyncio.gather(*(spool.finish(record(str(n))) for n in range(300)))
    answers = await asyncio.gather(*(spool.unacked(500) for _ in range(500)))
    assert {len(answer) for answer in answers} == {301}


async def test_a_rewind_sends_acked_entries_again(spool_at: Open) -> None:
    """Acknowledged entries are kept, so that a plane restored from a backup receives the entries again."""
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
    """At 95 % of the limit admission stops, and running requests are still recorded."""
    spool = spool_at(max_bytes=10_000)
    assert spool.can_admit() is False
    await spool.finish(record("a"))
    assert spool.stats().terminal == 1


async def test_what_was_acked_is_kept_for_a_week_and_what_was_not_for_ever(
    tmp_path: Path, clock: Any
) -> None:
    """Delivered entries are trimmed after seven days; the chain stays intact and unacknowledged entries stay."""
    path, day_s = tmp_path / "spool.db", 86400.0
    spool = Spool.open(path, SpoolSettings("node-1", reserve_bytes=4096), clock)
    await spool.begin_epoch(1)
    for name in ("acked", "not yet"):
        await spool.finish(record(name))
    entries = await spool.unacked(10)
    await spool.ack(1, 2, entries[1].hash)
    kept = []
    for days in (6, 2):
        clock.now_s += days * day_s
        await spool.finish(record(f"after {days} more days"))
        await spool.flush(60)
        reader = SpoolReader(path)
        kept.append([entry.sequence for entry in reader.every()])
        assert list(verify(reader.every())) == []
        reader.close()
    spool.close()
    assert kept == [[1, 2, 3, 4], [3, 4, 5]]


async def test_a_spool_of_the_first_format_is_read_after_an_upgrade(tmp_path: Path) -> None:
    """An earlier agent's file keeps chain, acknowledgements, open request and staged records."""
    path = tmp_path / "spool.db"
    shutil.copy(FIRST_FORMAT, path)
    spool = Spool.open(path, SpoolSettings("node-1", reserve_bytes=4096, keep_acked_s=1e10), SystemClock())
    entries = await spool.unacked(10)
    assert [(entry.epoch, entry.sequence, entry.intact) for entry in entries] == [(3, 3, True), (3, 4, True)]
    assert await spool.ack(3, 4, entries[-1].hash)
    await spool.begin_epoch(4)
    await spool.flush(60)
    bodies = b"".join(entry.body for entry in await spool.unacked(10))
    reader = SpoolReader(path)
    assert list(verify(reader.every())) == []
    reader.close()
    spool.close()
    assert bodies.count(b'"request_id":"staged"') == bodies.count(b'"request_id":"open"') == 1


def test_a_spool_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    """The file is not changed, and the error names the agent to start."""
    path = tmp_path / "spool.db"
    shutil.copy(FIRST_FORMAT, path)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE meta SET value = 2 WHERE key = 'format'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HostError) as refused:
        asyncio.run(_open(path))
    assert refused.value.code == "spool_format"
    assert path.read_bytes() == before


async def _open(path: Path) -> None:
    Spool.open(path, SpoolSettings("node-1", reserve_bytes=4096), SystemClock()).close()


async def test_listeners_hear_only_growth(spool_at: Open) -> None:
    """A listener is called after a record, and not after an acknowledgement."""
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

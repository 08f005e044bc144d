"""Records while the spool's file changes hands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.meter.spool import Spool, SpoolSettings
from pareta_agent.node.upgrade.spool_switch import SpoolSwitch
from pareta_agent.node.upgrade.successor import Unanswered

SETTINGS = SpoolSettings("node-1", reserve_bytes=4096)


def admission(name: str) -> Admission:
    return Admission(name, "org_a", "key_a", "ep_a", "task", "alias-1", "/v1/completions", True, 1.7e9)


def record(name: str) -> UsageRecord:
    return UsageRecord(admission(name), Outcome.COMPLETED, "engine_final", Tokens(10, 2, 5), ("stop",))


def opened(path: Path, *, shared: bool = False) -> Spool:
    return Spool.open(path, SETTINGS, SystemClock(), shared=shared)


@pytest.fixture
async def spool(tmp_path: Path) -> Iterator[Spool]:
    made = opened(tmp_path / "spool.db")
    yield made
    made.close()


async def test_a_record_waits_until_there_is_a_spool_again(spool: Spool) -> None:
    """It is durable only then, and only then its caller hears so."""
    records = SpoolSwitch(spool, lambda: True)
    records.pause()
    records.admit(admission("a"))
    saved = records.finish(record("a"))
    await asyncio.sleep(0.02)
    assert not saved.done()
    assert spool.stats().admitted == 0
    records.resume(spool, lambda: True)
    await saved
    assert (spool.stats().admitted, spool.stats().terminal, spool.stats().open) == (1, 1, 0)


async def test_a_spool_that_is_shared_leaves_open_what_another_agent_works_on(
    spool: Spool, tmp_path: Path
) -> None:
    """The second agent closes it by the first one's record, once; a third finds nothing open."""
    spool.admit(admission("a"))
    await spool.flush(60)
    spool.close()
    second = opened(tmp_path / "spool.db", shared=True)
    assert second.inherited == (admission("a"),)
    assert second.stats().open == 1
    await second.finish(record("a"))
    assert (second.stats().open, second.stats().terminal) == (0, 1)
    second.close()
    third = opened(tmp_path / "spool.db")
    assert third.stats().admitted == 0
    third.close()


async def test_what_the_other_agent_wrote_is_not_written_again(spool: Spool, tmp_path: Path) -> None:
    """It died after one commit of two: on taking back, the first record is only told, the second is written."""
    records = SpoolSwitch(spool, lambda: True)
    for name in ("a", "b"):
        records.admit(admission(name))
    await spool.flush(60)
    spool.close()
    other = opened(tmp_path / "spool.db", shared=True)
    await other.finish(record("a"))
    other.close()
    spool.reopen()
    loop = asyncio.get_running_loop()
    waiting = [(record(name), loop.create_future()) for name in ("a", "b", "c")]
    records.take_back(
        Unanswered((admission("c"), admission("d")), waiting), {each.request_id for each in spool.inherited}
    )
    records.resume(spool, lambda: True)
    await asyncio.gather(*(future for _, future in waiting))
    await spool.begin_epoch(1)
    await spool.flush(60)
    bodies = [entry.body.decode() for entry in await spool.unacked(100)]
    assert [sum(f'"request_id":"{name}"' in body for body in bodies) for name in "abc"] == [1, 1, 1]
    assert spool.stats().open == 1

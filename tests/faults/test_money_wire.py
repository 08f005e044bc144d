"""Planes that lose answers, lie, repeat and refuse: every record is ledgered once, whatever the wire does."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from moneylab import plane as lab
from moneylab.plane import BALANCE, ENDPOINT, NODE, ORG, LabPlane

from pareta_agent.clock import Clock, SystemClock
from pareta_agent.contract import wire
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.control.heartbeat import HeartbeatLoop, Listeners, NodeIdentity, Vitals
from pareta_agent.control.uplink import Uplink, UplinkSettings
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool

Figures = Callable[..., None]
FAST = UplinkSettings(linger_s=0.0, backoff_s=0.002, backoff_max_s=0.01, paused_s=0.005, max_events=8)
PRICE_OF_ONE = 103  # 1000 input, 7 output tokens at the seed's price, rounded half to even


def record(request_id: str, *, endpoint: str = ENDPOINT) -> UsageRecord:
    admission = Admission(request_id, ORG, "key", endpoint, "t", "a", "/v1/completions", False, 1.7e9)
    return UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(1000, 0, 7), ("stop",))


def quiet(_event: object) -> None:
    """Nobody listens."""


@asynccontextmanager
async def node(
    home: Path, plane: LabPlane, clock: Clock | None = None
) -> AsyncIterator[tuple[Spool, Uplink]]:
    """A registered node with a running uplink."""
    clock, registered = clock or SystemClock(), asyncio.Event()
    spool = Spool.open(
        home / "spool.db", SpoolSettings(NODE, reserve_bytes=4096, disk_reserve_bytes=0), clock
    )
    heard = Listeners(epoch=lambda _: registered.set())
    heart = HeartbeatLoop(
        plane, spool, NodeIdentity(NODE, "b", "0"), lambda: Vitals("ready"), clock, quiet, heard
    )
    uplink = Uplink(plane, spool, clock, quiet, FAST)
    tasks = [asyncio.create_task(heart.run()), asyncio.create_task(uplink.run())]
    try:
        await asyncio.wait_for(registered.wait(), 60)
        yield spool, uplink
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        spool.close()


@pytest.fixture
def plane(tmp_path: Path):
    found = LabPlane(tmp_path / "plane.db", SystemClock())
    yield found
    found.close()


def ledgered(plane: LabPlane) -> list[str]:
    return sorted(row["request_id"] for row in plane.plane.ledger.rows())


def spent(plane: LabPlane) -> int:
    return BALANCE - (plane.plane.orgs.balance(ORG) or 0)


@pytest.mark.parametrize("fault", lab.ALL, ids=lambda fault: fault.__name__)
async def test_each_fault_costs_delay_only(
    tmp_path: Path, plane: LabPlane, fault: lab.Fault, figures: Figures
) -> None:
    """Three calls in a row go wrong in one way; then every record is there, once, and debited once."""
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(record("first"))
        assert await uplink.drained(120)
        plane.faults.extend([fault] * 3)
        await asyncio.gather(*(spool.finish(record(str(n))) for n in range(20)))
        assert await uplink.drained(120)
        assert spool.stats().quarantined == 0
    figures(["first", *map(str, range(20))], ledgered(plane), admitted=21)
    assert spent(plane) == 21 * PRICE_OF_ONE


@pytest.mark.slow
async def test_a_storm_of_faults_costs_delay_only(tmp_path: Path, plane: LabPlane, figures: Figures) -> None:
    """Two hundred faults of all kinds in random order under load."""
    odds = random.Random(11)
    plane.faults.extend(odds.choice(lab.ALL) for _ in range(200))
    async with node(tmp_path, plane) as (spool, uplink):
        for batch in range(40):
            await asyncio.gather(*(spool.finish(record(f"{batch}-{n}")) for n in range(5)))
        more = 0
        while plane.faults:
            more += 1
            await spool.finish(record(f"more-{more}"))
            await uplink.drained(0.01)
        assert await uplink.drained(120)
        assert spool.stats().quarantined == 0
    names = [f"{batch}-{n}" for batch in range(40) for n in range(5)] + [f"more-{n + 1}" for n in range(more)]
    figures(names, ledgered(plane), admitted=200 + more)
    assert spent(plane) == (200 + more) * PRICE_OF_ONE


async def test_a_poison_event_blocks_nothing(tmp_path: Path, plane: LabPlane, figures: Figures) -> None:
    """What the ledger can't take is quarantined with its reason, and what follows is taken."""
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(record("good"))
        await spool.finish(record("poison", endpoint="ep_nowhere"))
        await spool.finish(record("fine"))
        assert await uplink.drained(120)
        assert (spool.stats().quarantined, uplink.view.rejected) == (1, 1)
    figures(["good", "fine"], ledgered(plane), admitted=2)


async def test_a_plane_restored_from_a_backup_gets_everything_again(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """Rows newer than the backup come back from the spool's acked entries, and are debited once."""
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(record("before"))
        assert await uplink.drained(120)
    shutil.copy(plane.path, tmp_path / "backup.db")
    async with node(tmp_path, plane) as (spool, uplink):
        await asyncio.gather(*(spool.finish(record(f"after-{n}")) for n in range(10)))
        assert await uplink.drained(120)
    plane.restore(tmp_path / "backup.db")
    assert ledgered(plane) == ["before"]
    async with node(tmp_path, plane) as (_, uplink):
        assert await uplink.drained(120)
    figures(["before", *(f"after-{n}" for n in range(10))], ledgered(plane), admitted=11)
    assert spent(plane) == 11 * PRICE_OF_ONE


async def test_a_plane_restored_under_a_running_node_gets_everything_again(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """The next batch meets a 409, and the uplink goes back to what the plane has lost."""
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(record("before"))
        assert await uplink.drained(120)
        shutil.copy(plane.path, tmp_path / "backup.db")
        await asyncio.gather(*(spool.finish(record(f"after-{n}")) for n in range(10)))
        assert await uplink.drained(120)
        plane.restore(tmp_path / "backup.db")
        await spool.finish(record("next"))
        assert await uplink.drained(120)
        assert uplink.view.rewinds == 1
    figures(["before", "next", *(f"after-{n}" for n in range(10))], ledgered(plane), admitted=12)
    assert spent(plane) == 12 * PRICE_OF_ONE


async def test_a_plane_restored_from_too_old_a_backup_goes_on(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """What the spool no longer keeps is noted as a gap, and does not hold up what comes after it."""
    shutil.copy(plane.path, tmp_path / "backup.db")
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(record("forgotten"))
        assert await uplink.drained(120)
        epoch = spool.stats().epoch
    _trim(tmp_path / "spool.db", keep_from=2)
    plane.restore(tmp_path / "backup.db")
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(record("later"))
        assert await uplink.drained(120)
        assert uplink.view.trouble == ""
    figures(["forgotten", "later"], ledgered(plane), admitted=2)
    assert plane.plane.nodes.gaps(NODE) == [(epoch, 1, 2)]


def _trim(path: Path, keep_from: int) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM events WHERE key & 0xffffffff < ?", (keep_from,))
    connection.close()


async def test_a_spool_rolled_back_is_noticed_and_debits_nothing_twice(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """An older copy of the spool sends again what the plane has: no second debit, and the gap is on record."""
    home = tmp_path / "node"
    async with node(home, plane) as (spool, uplink):
        await spool.finish(record("old"))
        assert await uplink.drained(120)
    shutil.copytree(home, tmp_path / "snapshot")
    async with node(home, plane) as (spool, uplink):
        await spool.finish(record("new"))
        assert await uplink.drained(120)
        last = spool.stats()
    assert plane.plane.nodes.gaps(NODE) == []
    async with node(tmp_path / "snapshot", plane) as (spool, uplink):
        await spool.finish(record("newest"))
        assert await uplink.drained(120)
    assert plane.plane.nodes.gaps(NODE) == [(last.epoch, last.last_seq, 0)]
    figures(["new", "newest", "old"], ledgered(plane), admitted=3)
    assert spent(plane) == 3 * PRICE_OF_ONE


async def test_a_spool_rolled_back_behind_its_own_acks_goes_on(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """What an older copy still holds undelivered is long in, within its epoch: it is not to wait for ever."""
    home = tmp_path / "node"
    async with node(home, plane) as (spool, uplink):
        plane.faults.extend([lab.away] * 100_000)
        await spool.finish(record("old"))
        shutil.copytree(home, tmp_path / "snapshot")
        await spool.finish(record("new"))
        plane.faults.clear()
        assert await uplink.drained(120)
    async with node(tmp_path / "snapshot", plane) as (spool, uplink):
        await spool.finish(record("newest"))
        assert await uplink.drained(20)
    figures(["new", "newest", "old"], ledgered(plane), admitted=3)
    assert spent(plane) == 3 * PRICE_OF_ONE


async def test_a_call_of_very_many_answers_fits_the_wire(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """2,048 prompts with 128 answers each: the record is delivered, and what comes after it as well."""
    many = replace(record("many"), finish_reasons=("length",) * 2048 * 128, choices=2048 * 128)
    async with node(tmp_path, plane) as (spool, uplink):
        await spool.finish(many)
        await spool.finish(record("next"))
        assert await uplink.drained(20)
    figures(["many", "next"], ledgered(plane), admitted=2)


async def test_a_copied_spool_can_not_debit_twice(tmp_path: Path, plane: LabPlane, figures: Figures) -> None:
    """Two disks with the same undelivered records: each request is ledgered once."""
    home = tmp_path / "node"
    async with node(home, plane) as (spool, _):
        plane.faults.extend([lab.away] * 1000)
        await asyncio.gather(*(spool.finish(record(str(n))) for n in range(10)))
    plane.faults.clear()
    shutil.copytree(home, tmp_path / "copy")
    for place in (home, tmp_path / "copy"):
        async with node(place, plane) as (_, uplink):
            assert await uplink.drained(120)
    figures([*map(str, range(10))], ledgered(plane), admitted=10)
    assert spent(plane) == 10 * PRICE_OF_ONE


async def test_a_fenced_node_still_delivers_what_it_earned(
    tmp_path: Path, plane: LabPlane, figures: Figures
) -> None:
    """A newer epoch takes the lease; the older one's records are taken all the same."""
    async with node(tmp_path, plane) as (spool, uplink):
        epoch = spool.stats().epoch
        newer = plane.plane.nodes.register(
            wire.Register(node=NODE, boot_id="b2", agent_version="0", epochs=[])
        )
        assert newer.epoch > epoch
        await spool.finish(record("earned"))
        assert await uplink.drained(120)
    figures(["earned"], ledgered(plane), admitted=1)


class SteppedClock(SystemClock):
    """A wall clock that somebody sets."""

    off_s = 0.0

    def wall_s(self) -> float:
        return super().wall_s() + self.off_s


async def test_a_clock_that_is_set_moves_no_money(tmp_path: Path, plane: LabPlane, figures: Figures) -> None:
    """A year forward, two back, and home again, on node and plane: order and amounts stand."""
    clock = SteppedClock()
    plane.close()
    plane = LabPlane(plane.path, clock)
    year_s = 365 * 86400.0
    async with node(tmp_path, plane, clock) as (spool, uplink):
        for number, off_s in enumerate((0.0, year_s, -year_s, 0.0)):
            clock.off_s = off_s
            await asyncio.gather(*(spool.finish(record(f"{number}-{n}")) for n in range(5)))
            assert await uplink.drained(120)
    figures([f"{number}-{n}" for number in range(4) for n in range(5)], ledgered(plane), admitted=20)
    assert spent(plane) == 20 * PRICE_OF_ONE
    plane.close()

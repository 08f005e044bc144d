"""The disk under the spool: power cuts, no space, failing and slow syncs, rot. What was promised stays."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import apsw
import pytest
from moneylab.disk import Disk, Platter

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_event import SpoolEntry
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.errors import HostError
from pareta_agent.meter.chain_check import verify
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool

_names = count()
Figures = Callable[..., None]


def record(request_id: str) -> UsageRecord:
    admission = Admission(request_id, "org", "key", "ep", "t", "a", "/v1/completions", False, 1.7e9)
    return UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(1, 0, 1), ("stop",))


@pytest.fixture
def disk() -> Disk:
    return Disk(f"faulty-{next(_names)}")


@asynccontextmanager
async def opened(path: Path, vfs: str | None = None) -> AsyncIterator[Spool]:
    settings = SpoolSettings("n", reserve_bytes=65536, disk_reserve_bytes=0, vfs=vfs)
    spool = Spool.open(path, settings, SystemClock())
    try:
        yield spool
    finally:
        spool.close()


async def everything(path: Path) -> dict[str, SpoolEntry]:
    """All records of a reopened spool by request id, numbered in a new epoch or an old one."""
    async with opened(path) as spool:
        await spool.begin_epoch(max(spool.epochs(), default=0) + 1)
        await spool.flush(60)
        reader, found = SpoolReader(path), {}
        assert list(verify(reader.every())) == []
        reader.close()
        while entries := await spool.unacked(500):
            assert all(entry.intact for entry in entries)
            for entry in entries:
                if b'"request_id":"' in entry.body:
                    name = entry.body.split(b'"request_id":"')[1].split(b'"')[0].decode()
                    assert name not in found
                    found[name] = entry
            assert await spool.ack(entries[-1].epoch, entries[-1].sequence, entries[-1].hash)
    return found


async def test_a_power_cut_loses_nothing_that_was_promised(
    tmp_path: Path, disk: Disk, figures: Figures
) -> None:
    """At many moments, with unsynced writes lost, kept or torn in any mixture, every awaited record is there."""
    promised: set[str] = set()
    moments: list[tuple[set[str], Platter]] = []
    disk.watch = lambda: moments.append((set(promised), disk.platter()))
    async with opened(tmp_path / "live" / "spool.db", disk.name) as spool:
        await spool.begin_epoch(1)

        async def client(name: str) -> None:
            for number in range(8):
                spool.admit(record(f"{name}-{number}").admission)
                await asyncio.sleep(0)
                await spool.finish(record(f"{name}-{number}"))
                promised.add(f"{name}-{number}")

        await asyncio.gather(*(client(str(n)) for n in range(6)))
    assert len(promised) == 48
    odds, wanted, kept = random.Random(7), [], []
    for number, (before, platter) in enumerate(odds.sample(moments, 40)):
        into = tmp_path / f"cut-{number}"
        platter.power_cut(into, odds if number % 3 else None)
        wanted += [f"{number} {name}" for name in before]
        kept += [f"{number} {name}" for name in await everything(into / "spool.db")]
    figures(wanted, kept)


async def test_a_disk_that_lies_about_syncing_is_what_loses(tmp_path: Path, disk: Disk) -> None:
    """The shim can tell: without syncs the same power cut does lose records, so the test above can fail."""
    async with opened(tmp_path / "live" / "spool.db", disk.name) as spool:
        await spool.begin_epoch(1)
        disk.drops_sync = True
        await spool.finish(record("a"))
        disk.platter().power_cut(tmp_path / "cut")
    assert "a" not in await everything(tmp_path / "cut" / "spool.db")


async def test_a_full_disk_ends_admission_and_spares_what_was_written(
    tmp_path: Path, disk: Disk, figures: Figures
) -> None:
    """When even the reserve is not enough, the caller hears an error instead of an end, and nothing is half there."""
    path = tmp_path / "spool.db"
    async with opened(path, disk.name) as spool:
        await spool.begin_epoch(1)
        await spool.finish(record("before"))
        disk.full = True
        with pytest.raises(HostError) as failed:
            await spool.finish(record("after"))
        assert failed.value.code == "spool_failed"
        assert spool.can_admit() is False
        with pytest.raises(HostError):
            await asyncio.wait_for(spool.guard(), 60)
        disk.full = False
    found = list(await everything(path))
    assert found == ["before"]
    figures(["before"], found, admitted=1)


async def test_the_reserve_lets_running_requests_finish(tmp_path: Path, disk: Disk, figures: Figures) -> None:
    """No space at the first try: the reserve is given up, the record is written, and nothing more is admitted."""
    path = tmp_path / "spool.db"
    async with opened(path, disk.name) as spool:
        await spool.begin_epoch(1)
        assert spool.can_admit() is True
        disk.full_beside = path.with_suffix(".reserve")
        await spool.finish(record("a"))
        assert spool.can_admit() is False
    figures(["a"], list(await everything(path)), admitted=1)


async def test_a_disk_with_space_again_is_admitted_to_again(tmp_path: Path, disk: Disk) -> None:
    """The reserve is taken anew after a while, without a restart."""
    path, clock = tmp_path / "spool.db", FastClock()
    spool = Spool.open(
        path, SpoolSettings("n", reserve_bytes=65536, disk_reserve_bytes=0, vfs=disk.name), clock
    )
    await spool.begin_epoch(1)
    disk.full_beside = path.with_suffix(".reserve")
    await spool.finish(record("a"))
    assert spool.can_admit() is False
    disk.full_beside = None
    clock.ahead_s = 11.0
    await spool.finish(record("b"))
    await spool.flush(60)
    assert spool.can_admit() is True
    spool.close()


async def that_keeps_nothing_delivered(path: Path, disk: Disk, clock: SystemClock) -> Spool:
    """A spool with one record, that drops it once it is acknowledged."""
    settings = SpoolSettings(
        "n", reserve_bytes=65536, disk_reserve_bytes=0, keep_acked_s=-60.0, vfs=disk.name
    )
    spool = Spool.open(path, settings, clock)
    await spool.begin_epoch(1)
    await spool.finish(record("delivered"))
    return spool


async def test_no_space_to_drop_what_was_delivered_is_no_failure(
    tmp_path: Path, disk: Disk, figures: Figures
) -> None:
    """It stays until there is some, and what runs is recorded."""
    path, clock = tmp_path / "spool.db", FastClock()
    spool = await that_keeps_nothing_delivered(path, disk, clock)
    last = spool.stats()
    assert await spool.ack(last.epoch, last.last_seq, bytes.fromhex(last.last_hash))
    disk.full, clock.ahead_s = True, 2.0
    await spool.flush(60)
    await spool.flush(60)  # the house is kept after who waits was told
    disk.full = False
    await spool.finish(record("next"))
    assert spool.can_admit() is True
    spool.close()
    figures(["next"], list(await everything(path)), admitted=1)


async def test_who_is_on_disk_is_told_so_whatever_fails_after(
    tmp_path: Path, disk: Disk, figures: Figures
) -> None:
    """A record that is written will be debited: its caller gets its answer, though the spool is broken from then on."""
    path, clock = tmp_path / "spool.db", StillClock()
    spool = await that_keeps_nothing_delivered(path, disk, clock)
    last, synced = spool.stats(), disk.syncs
    assert await spool.ack(last.epoch, last.last_seq, bytes.fromhex(last.last_hash))

    def break_after_the_record() -> None:
        if disk.syncs > synced + 1:
            disk.sync_fails, clock.now_s = True, 2.0

    disk.watch = break_after_the_record
    await spool.finish(record("next"))
    with pytest.raises(HostError):
        await asyncio.wait_for(spool.guard(), 120)
    disk.watch, disk.sync_fails = None, False
    spool.close()
    figures(["next"], list(await everything(path)), admitted=1)


class StillClock(SystemClock):
    """Its monotonic hand is moved by the test alone."""

    now_s = 0.0

    def mono_s(self) -> float:
        return self.now_s


class FastClock(SystemClock):
    """Its monotonic hand can be put ahead."""

    ahead_s = 0.0

    def mono_s(self) -> float:
        return super().mono_s() + self.ahead_s


async def test_a_failed_sync_is_never_retried(tmp_path: Path, disk: Disk, figures: Figures) -> None:
    """After EIO the page cache may lie: the spool stops for good, even when the disk recovers."""
    async with opened(tmp_path / "spool.db", disk.name) as spool:
        await spool.begin_epoch(1)
        await spool.finish(record("before"))
        disk.sync_fails = True
        with pytest.raises(HostError):
            await spool.finish(record("a"))
        disk.sync_fails = False
        syncs = disk.syncs
        with pytest.raises(HostError):
            await spool.finish(record("b"))
        assert disk.syncs == syncs
        assert spool.can_admit() is False
    kept = [
        name for name in await everything(tmp_path / "spool.db") if name != "a"
    ]  # told to nobody: may be there
    figures(["before"], kept, admitted=1)


async def test_a_slow_disk_makes_larger_groups(tmp_path: Path, disk: Disk, figures: Figures) -> None:
    """64 records behind a 30 ms sync take a few commits, not 64."""
    async with opened(tmp_path / "spool.db", disk.name) as spool:
        await spool.begin_epoch(1)
        disk.sync_takes_s = 0.03
        before = disk.syncs
        await asyncio.gather(*(spool.finish(record(str(n))) for n in range(64)))
        assert disk.syncs - before <= 4
        disk.sync_takes_s = 0.0
    names = [str(n) for n in range(64)]
    figures(names, list(await everything(tmp_path / "spool.db")), admitted=64)


@pytest.mark.parametrize("column", ["body", "hash", "prev_hash"])
async def test_a_flipped_bit_costs_at_most_its_own_record(
    tmp_path: Path, column: str, figures: Figures
) -> None:
    """A changed hash is mended from its second copy; changed bytes are marked lost, and the rest goes on."""
    path = tmp_path / "spool.db"
    async with opened(path) as spool:
        await spool.begin_epoch(1)
        for number in range(5):
            await spool.finish(record(str(number)))
        hashes = [entry.hash for entry in await spool.unacked(10)]
    _flip(path, column)
    async with opened(path) as spool:
        entries = await spool.unacked(10)
        assert [entry.hash for entry in entries] == hashes
        assert [entry.intact for entry in entries] == [number != 3 or column != "body" for number in range(6)]
        assert spool.stats().quarantined == (column == "body")
        kept = [str(number - 1) for number in range(1, 6) if entries[number].intact]
    told = int(column == "body")
    figures([str(n) for n in range(5)], kept, admitted=5 - told, told=told)


def _flip(path: Path, column: str) -> None:
    connection = apsw.Connection(str(path))
    ((key, value),) = connection.execute(f"SELECT key, {column} FROM events ORDER BY key LIMIT 1 OFFSET 3")
    flipped = bytes([*value[:9], value[9] ^ 1, *value[10:]])
    connection.execute(f"UPDATE events SET {column} = ? WHERE key = ?", (flipped, key))
    connection.close()


async def test_a_torn_file_is_put_aside_and_what_can_be_read_is_kept(
    tmp_path: Path, figures: Figures
) -> None:
    """Pages overwritten at random: the spool opens, says so in an event, and keeps the readable records."""
    path = tmp_path / "spool.db"
    async with opened(path) as spool:
        await spool.begin_epoch(1)
        for number in range(200):
            await spool.finish(record(f"{number:03}"))
    content = bytearray(path.read_bytes())
    page = 4096 * (len(content) // 4096 * 3 // 4)
    content[page : page + 4096] = random.Random(3).randbytes(4096)
    path.write_bytes(content)
    found = await everything(path)
    assert len(found) >= 190
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) >= 1
    figures([f"{number:03}" for number in range(200)], list(found), told=200 - len(found))


async def test_a_torn_file_that_changes_hands_keeps_its_requests_open(
    tmp_path: Path, figures: Figures
) -> None:
    """Found in an upgrade: who had it before still works on them, and its own record is the one that counts."""
    path = tmp_path / "spool.db"
    async with opened(path) as spool:
        await spool.begin_epoch(1)
        spool.admit(record("running").admission)
        for number in range(200):
            await spool.finish(record(f"{number:03}"))
    content = bytearray(path.read_bytes())
    page = 4096 * (len(content) // 4096 * 3 // 4)
    content[page : page + 4096] = random.Random(3).randbytes(4096)
    path.write_bytes(content)
    settings = SpoolSettings("n", reserve_bytes=65536, disk_reserve_bytes=0)
    spool = Spool.open(path, settings, SystemClock(), shared=True)
    assert [each.request_id for each in spool.inherited] == ["running"]
    await spool.finish(record("running"))
    spool.close()
    found = await everything(path)
    assert b'"outcome":"completed"' in found["running"].body
    names = ["running", *(f"{number:03}" for number in range(200))]
    figures(names, list(found), told=len(names) - len(found))


async def test_a_spool_that_is_no_database_is_put_aside(tmp_path: Path) -> None:
    """A file of noise does not keep the node from starting."""
    path = tmp_path / "spool.db"
    path.write_bytes(random.Random(1).randbytes(65536))
    assert await everything(path) == {}
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1


async def test_the_spool_of_another_node_is_refused(tmp_path: Path, figures: Figures) -> None:
    """A disk image started elsewhere must not send another node's records."""
    async with opened(tmp_path / "spool.db") as spool:
        await spool.begin_epoch(1)
        await spool.finish(record("a"))
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    settings = SpoolSettings("other", reserve_bytes=4096)
    with pytest.raises(HostError) as refused:
        Spool.open(tmp_path.with_name("copy") / "spool.db", settings, SystemClock())
    assert refused.value.code == "spool_of_another_node"
    figures(["a"], list(await everything(tmp_path / "spool.db")), admitted=1)

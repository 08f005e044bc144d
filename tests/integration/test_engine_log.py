"""An engine that fills its log: the file stays small, whoever runs, and the engine never waits for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from engine_room import Room, buried, crash, room, rooms_in, settings, spec

from pareta_agent import processes
from pareta_agent.contract.fleet_view import EndpointView

pytestmark = pytest.mark.slow

Make = Callable[..., Room]
MAX_BYTES = 1 << 20
LINE_BYTES = 200


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with rooms_in(tmp_path) as make_room:
        yield make_room


def live(view: EndpointView) -> bool:
    return view.status == "live"


def log_of(made: Room) -> Path:
    return made.settings.log_dir / "ep_x-0.log"


def keepers(made: Room) -> list[processes.Stat]:
    return [found for found in processes.processes() if _keeps(found.pid, log_of(made))]


def _keeps(pid: int, log: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(log).encode() in words and any(b"log_keeper" in word for word in words)


def written(flood: Path) -> int:
    """Bytes that went into the log so far, at least."""
    count = flood.with_suffix(".count")
    return LINE_BYTES * int(count.read_text() or 0) if count.exists() else 0


async def flooded(flood: Path, log: Path, least_bytes: int = 20 * MAX_BYTES) -> None:
    """Floods the log for so many bytes, then waits until it is small again."""
    flood.touch()
    async with asyncio.timeout(120):
        while written(flood) < least_bytes:
            await asyncio.sleep(0.02)
        flood.unlink()
        while log.stat().st_size > MAX_BYTES:
            await asyncio.sleep(0.02)


async def test_a_log_stays_small_and_keeps_its_beginning_and_its_end(make: Make, tmp_path: Path) -> None:
    """What start-up phases are read from, what was dropped, and the last lines, whole ones only."""
    flood = tmp_path / "flood"
    made = make("--flood-when", str(flood), log_max_bytes=MAX_BYTES)
    await made.fleet.want(spec())
    await made.until(live)
    await flooded(flood, log_of(made))
    text = log_of(made).read_text()
    assert "vLLM server version 0.32.0" in text
    assert "bytes of this log were dropped here" in text
    numbers = [int(line.split()[3]) for line in text.splitlines() if "flood.py" in line]
    assert numbers[-1] == int(flood.with_suffix(".count").read_text()) - 1
    assert made.fleet.view().endpoints["ep_x"].replicas[0].generation == 1


async def test_a_log_stays_small_while_its_agent_is_away(tmp_path: Path) -> None:
    """The engine outlives its agent, and so does what bounds its log; the next agent finds both as they were."""
    flood = tmp_path / "flood"
    made = settings(tmp_path, ("--flood-when", str(flood)), log_max_bytes=MAX_BYTES)
    old = room(made)
    await old.fleet.want(spec())
    await old.until(live)
    (keeper,) = keepers(old)
    await crash(old)
    await flooded(flood, log_of(old))
    new = room(made)
    assert await new.fleet.reap_orphans() == 0
    await new.fleet.want(spec())
    await new.until(live)
    assert keepers(new) == [keeper]
    await flooded(flood, log_of(new), 2 * written(flood))
    await new.fleet.close(1)
    assert new.left_behind() == ([], [])
    await buried()
    shutil.rmtree(made.run_dir, ignore_errors=True)


async def test_an_agent_that_takes_over_brings_back_what_bounds_the_log(tmp_path: Path) -> None:
    """A log keeper that was killed, or that an older agent did not start."""
    flood = tmp_path / "flood"
    made = settings(tmp_path, ("--flood-when", str(flood)), log_max_bytes=MAX_BYTES)
    old = room(made)
    await old.fleet.want(spec())
    await old.until(live)
    (keeper,) = keepers(old)
    os.kill(keeper.pid, signal.SIGKILL)
    await crash(old)
    new = room(made)
    await new.fleet.reap_orphans()
    await new.fleet.want(spec())
    await new.until(live)
    await flooded(flood, log_of(new))
    await new.fleet.close(1)
    async with asyncio.timeout(120):
        while keepers(new):
            await asyncio.sleep(0.01)
    assert new.left_behind() == ([], [])
    await buried()
    shutil.rmtree(made.run_dir, ignore_errors=True)


async def test_an_end_after_a_flood_is_still_explained(make: Make, tmp_path: Path) -> None:
    """Its verdict is read from the last lines of what is left."""
    flood = tmp_path / "flood"
    made = make("--flood-when", str(flood), "--die-after", "1", log_max_bytes=MAX_BYTES)
    flood.touch()
    await made.fleet.want(spec())
    async with asyncio.timeout(120):
        while not made.events("engine_ended"):
            await asyncio.sleep(0.05)
    assert made.events("engine_ended")[0].fields["code"] == "engine_core_died"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_engine_does_not_need_its_log_keeper(
    make: Make, tmp_path: Path, number: signal.Signals
) -> None:
    """Dead or stopped, it holds nobody up; and nothing of it is left in the end."""
    flood = tmp_path / "flood"
    made = make("--flood-when", str(flood), log_max_bytes=MAX_BYTES)
    await made.fleet.want(spec())
    await made.until(live)
    (keeper,) = keepers(made)
    os.kill(keeper.pid, number)
    flood.touch()
    async with asyncio.timeout(120):
        while written(flood) < 2 * MAX_BYTES:
            await asyncio.sleep(0.02)
    flood.unlink()
    assert made.fleet.view().endpoints["ep_x"].replicas[0].generation == 1


async def test_a_crashed_engine_leaves_no_log_keeper(make: Make) -> None:
    """It ends with the process that it follows, before anybody looks."""
    made = make()
    await made.fleet.want(spec())
    await made.until(live)
    (keeper,) = keepers(made)
    os.kill(keeper.group, signal.SIGKILL)
    async with asyncio.timeout(120):
        while processes.adopt(keeper.pid, keeper.started) is not None:
            await asyncio.sleep(0.01)
    await made.until(lambda view: live(view) and view.replicas[0].generation == 2)
    assert len(keepers(made)) == 1

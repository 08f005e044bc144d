"""Whatever happens to an engine's processes, in the end none is left and the endpoint serves or says why."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from engine_room import FAKE, Room, buried, crash, room, rooms_in, settings, spec

from pareta_agent.engine.process.engine_process import marked

Make = Callable[..., Room]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with rooms_in(tmp_path) as make_room:
        yield make_room


@pytest.mark.slow
async def test_stop_at_twenty_random_moments_of_the_start(make: Make) -> None:
    """Each time nothing is left, and each start is reported exactly once."""
    draw = random.Random(7)
    made = make("--ready-after", "0.6", "--ignore-term", "--fork-child")
    for _ in range(20):
        await made.fleet.want(spec())
        await asyncio.sleep(draw.uniform(0, 1.0))
        async with asyncio.timeout(120):
            await made.fleet.remove("ep_x", drain_s=0.05)
        assert made.left_behind() == ([], [])
    assert len(made.reports) == 20


async def test_children_that_left_the_group_are_found_by_marker(make: Make, tmp_path: Path) -> None:
    """A bomb of forks, half of them in sessions of their own: all gone with the engine."""
    bomb = tmp_path / "bomb.py"
    bomb.write_text(
        "import os, runpy, sys, time\n"
        "leader = os.getpid()\n"
        "for n in range(4):\n"
        "    if os.fork() == 0 and n % 2:\n"
        "        os.setsid()\n"
        "if os.getpid() != leader:\n"
        "    time.sleep(3600)\n"
        f"sys.argv[0] = {str(FAKE)!r}\n"
        f"runpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    )
    made = make(command=(sys.executable, str(bomb)))
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "live")
    async with asyncio.timeout(120):
        while len(marked(made.settings.home_id)) < 16:  # some may fork still while their leader serves
            await asyncio.sleep(0.02)
    assert len(marked(made.settings.home_id)) == 16
    await made.fleet.remove("ep_x")
    assert made.left_behind() == ([], [])


async def test_engine_that_dies_of_the_question_is_a_crash(make: Make) -> None:
    """Alive at health, gone at the canary: said as an exit, not as a wrong answer."""
    made = make("--die-after", "0")
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "failed" or len(made.reports) >= 3)
    assert view.replicas == ()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--freeze",), ()], ids=["asked its canary", "serving"])
async def test_a_core_that_dies_takes_its_leader_with_it(make: Make, flags: tuple[str, ...]) -> None:
    """The leader lives on and would keep its callers waiting: within seconds it is ended, and the next one starts."""
    made = make("--fork-child", *flags)
    await made.fleet.want(spec())
    async with asyncio.timeout(120):
        while not cores_are_known(made):
            await asyncio.sleep(0.01)
    if not flags:
        await made.until(lambda view: view.status == "live")
    await asyncio.sleep(0.2)
    intent = made.fleet._intents.read("ep_x", 0)
    (child,) = [found for found in marked(made.settings.home_id) if intent and found.parent == intent.pid]
    os.kill(child.pid, signal.SIGKILL)
    async with asyncio.timeout(120):
        while not made.events("engine_ended"):
            await asyncio.sleep(0.02)
    assert made.events("engine_ended")[0].fields["code"] == "engine_died"
    async with asyncio.timeout(120):
        while (newer := made.fleet._intents.read("ep_x", 0)) is None or newer.generation < 2:
            await asyncio.sleep(0.02)


def cores_are_known(made: Room) -> bool:
    """Its first engine is healthy and about to be asked, by an agent that knows on whom its answers depend."""
    slots = made.fleet._endpoints["ep_x"]._slots
    start = slots[0].replica._start if slots and slots[0].replica else None
    return start is not None and start.engine is not None and bool(start.engine._cores)


async def test_a_server_that_says_its_core_is_gone_is_not_waited_for(make: Make) -> None:
    """It died before anybody had asked: the server listens, would say so for ever, and is ended."""
    made = make("--health", "503")
    await made.fleet.want(spec())
    async with asyncio.timeout(120):
        while not made.events("engine_ended"):
            await asyncio.sleep(0.02)
    assert made.events("engine_ended")[0].fields["code"] == "engine_died"


@pytest.mark.slow
async def test_kill_and_adopt_again_and_again(tmp_path: Path) -> None:
    """Ten agents in a row, each killed: one engine serves throughout, under one pid."""
    made_settings = settings(tmp_path)
    pids = set()
    for _ in range(10):
        made = room(made_settings)
        await made.fleet.reap_orphans()
        await made.fleet.want(spec())
        await made.until(lambda view: view.status == "live")
        intent = made.fleet._intents.read("ep_x", 0)
        assert intent is not None
        pids.add(intent.pid)
        await crash(made)
    assert len(pids) == 1
    for found in marked(made_settings.home_id):
        os.kill(found.pid, signal.SIGKILL)
    await buried()
    shutil.rmtree(made_settings.run_dir, ignore_errors=True)

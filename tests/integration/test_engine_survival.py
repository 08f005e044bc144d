"""Engines that freeze are ended, and engines that outlive their agent are taken over or removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_room import PLAN, Room, buried, crash, room, settings, spec

from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.spec import EngineSettings
from pareta_registry.catalog import Canary

pytestmark = pytest.mark.slow


@pytest.fixture
async def adopting(tmp_path: Path) -> AsyncIterator[EngineSettings]:
    """Settings of agents that come one after the other; whatever runs in the end is killed."""
    made = settings(tmp_path)
    yield made
    for found in marked(made.home_id):
        os.kill(found.pid, signal.SIGKILL)
    await buried()
    shutil.rmtree(made.run_dir, ignore_errors=True)


async def live(room: Room, **changes: object) -> tuple[int, int | None]:
    """Generation and pid of the engine, once it is live."""
    await room.fleet.want(spec(**changes))
    view = await room.until(lambda view: view.status == "live")
    intent = room.fleet._intents.read("ep_x", 0)
    return view.replicas[0].generation, intent.pid if intent else None


async def test_live_engine_is_adopted_with_its_pid(adopting: EngineSettings) -> None:
    """Same process, same generation, ready again without a start; and its end is still seen."""
    old = room(adopting)
    generation, pid = await live(old)
    await crash(old)
    new = room(adopting)
    assert await new.fleet.reap_orphans() == 0
    assert await live(new) == (generation, pid)
    (adopted,) = new.events("engine_adopted")
    assert (adopted.fields["outcome"], new.reports) == ("ready", [])
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await new.until(lambda view: view.status == "live" and view.replicas[0].generation == generation + 1)
    await new.fleet.close(1)
    assert new.left_behind() == ([], [])


async def test_engine_of_another_make_is_replaced(adopting: EngineSettings) -> None:
    """Other weights are wanted now: the survivor is ended before its successor starts."""
    old = room(adopting)
    generation, pid = await live(old)
    await crash(old)
    new = room(adopting)
    await new.fleet.reap_orphans()
    again = await live(new, revision="sha256:other")
    assert again[0] == generation + 1
    assert pid not in [found.pid for found in marked(adopting.home_id)]
    await new.fleet.close(1)


async def test_an_engine_is_not_replaced_before_the_agent_that_hands_over_knows(
    adopting: EngineSettings,
) -> None:
    """That one may have nothing there at the moment, and send the next request in the next."""
    old = room(adopting)
    generation, pid = await live(old)
    await crash(old)
    new, unaware = room(adopting), True
    new.fleet.adoptable.unaware = lambda _replica: unaware
    await new.fleet.reap_orphans()
    replaced = asyncio.create_task(live(new, revision="sha256:other"))
    await asyncio.sleep(1.5)
    assert pid in [found.pid for found in marked(adopting.home_id)]
    unaware = False
    assert (await replaced)[0] == generation + 1
    assert pid not in [found.pid for found in marked(adopting.home_id)]
    await new.fleet.close(1)


async def test_survivors_that_nobody_wants_are_ended(adopting: EngineSettings) -> None:
    """After the first reconciliation what is unclaimed goes, with its files."""
    old = room(adopting)
    await live(old)
    await crash(old)
    new = room(adopting)
    await new.fleet.reap_orphans()
    assert await new.fleet.end_adoptable() == 1
    assert new.left_behind() == ([], [])


async def test_what_still_runs_for_the_same_wish_keeps_its_plan(adopting: EngineSettings) -> None:
    """A plan made anew may differ by what was measured meanwhile, and must not end an engine that serves."""
    old = room(adopting)
    _, pid = await live(old, wish="w1")
    await crash(old)
    new = room(adopting)
    await new.fleet.reap_orphans()
    found = await new.fleet.adoptable_plan("ep_x", "w1")
    assert found is not None
    assert found.plan == PLAN
    assert pid in [found.pid for found in marked(adopting.home_id)]
    assert await new.fleet.adoptable_plan("ep_x", "w2") is None
    assert new.left_behind() == ([], [])


async def test_an_adopted_engine_is_asked_again_before_it_is_live(adopting: EngineSettings) -> None:
    """It answered its first agent rightly; meanwhile it went wrong, so the second one replaces it."""
    old = room(adopting)
    generation, _ = await live(old)
    await crash(old)
    new = room(adopting)
    await new.fleet.reap_orphans()
    other = Canary(prompt="Say something else", contains="something that the fake never says", max_tokens=4)
    await new.fleet.want(spec(canaries=(other,)))
    await new.until(lambda view: view.status == "failed")
    (adopted,) = new.events("engine_adopted")
    assert adopted.fields["outcome"] == "failed"
    assert new.events("engine_ended")[0].fields["generation"] == generation
    assert new.left_behind() == ([], [])
    await new.fleet.close(1)


async def test_dead_pid_is_not_adopted(adopting: EngineSettings) -> None:
    """The record alone is nothing: its engine died while no agent looked."""
    old = room(adopting)
    generation, pid = await live(old)
    await crash(old)
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    while pid in [found.pid for found in marked(adopting.home_id)]:
        await asyncio.sleep(0.01)
    new = room(adopting)
    await new.fleet.reap_orphans()
    assert (await live(new))[0] == generation + 1
    await new.fleet.close(1)


async def test_frozen_engine_with_requests_is_ended(tmp_path: Path) -> None:
    """Health says 200, tokens stand still, the front holds a request: ended within the limit, started anew."""
    held, frozen = 1, tmp_path / "frozen"
    flags = ("--freeze-when", str(frozen))
    made = room(settings(tmp_path, flags, progress_s=0.6, idle_canary_s=3600.0))
    made.fleet.watch(lambda name: held if name == "ep_x/0" else 0)
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "live")
    frozen.touch()
    await made.until(lambda view: view.status == "deploying")
    held = 0
    frozen.unlink()
    await made.until(lambda view: view.status == "live")
    assert made.events("engine_ended")[0].fields["code"] == "engine_stalled"
    await made.fleet.close(1)
    assert made.left_behind() == ([], [])
    shutil.rmtree(made.settings.run_dir, ignore_errors=True)


async def test_a_caller_who_does_not_read_does_not_end_its_engine(tmp_path: Path) -> None:
    """The front holds a request and moves no token for longer than the limit, but the engine answers when asked."""
    made = room(settings(tmp_path, progress_s=10.0, idle_canary_s=3600.0))
    made.fleet.watch(lambda name: int(name == "ep_x/0"))
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "live")
    before = len(made.events("canary_answered"))
    async with asyncio.timeout(120):
        while len(made.events("canary_answered")) < before + 2:
            await asyncio.sleep(0.05)
            assert made.events("engine_ended") == []
    await made.fleet.close(1)
    shutil.rmtree(made.settings.run_dir, ignore_errors=True)


async def test_stopped_process_is_noticed_while_idle(tmp_path: Path) -> None:
    """SIGSTOP to the engine: nobody asks it anything, and yet it is ended and replaced."""
    made = room(settings(tmp_path, progress_s=2.0))
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "live")
    intent = made.fleet._intents.read("ep_x", 0)
    assert intent is not None
    assert intent.pid is not None
    os.kill(intent.pid, signal.SIGSTOP)
    again = await made.until(lambda view: bool(view.replicas) and view.replicas[0].generation >= 2)
    stacks = made.events("engine_ended")[0].fields["stacks_path"]
    assert "engine.py" in Path(stacks).read_text()
    assert made.events("restart_scheduled")[0].fields["reason"] == "starting again at once"
    assert (view.replicas[0].generation, again.status) == (1, "live")
    await made.fleet.close(1)
    shutil.rmtree(made.settings.run_dir, ignore_errors=True)

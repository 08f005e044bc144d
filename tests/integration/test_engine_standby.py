"""Standbys over a stub vLLM: real processes that import, wait, are told, fork and serve."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from engine_room import Room, room, settings, spec
from fakes import stub_vllm

from pareta_agent import processes
from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.standby import standby

pytestmark = pytest.mark.slow
Make = Callable[..., Room]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    rooms: list[Room] = []

    def make_room(environment: dict[str, str] | None = None, old: bool = False, **changes: object) -> Room:
        python = stub_vllm.write(tmp_path / f"engine{len(rooms)}", old, **(environment or {}))
        rooms.append(room(settings(tmp_path, command=None, python=python, standby=1, **changes)))
        return rooms[-1]

    yield make_room
    for made in rooms:
        made.fleet.hurry()
        await made.fleet.close(1)
        assert made.left_behind() == ([], [])
        shutil.rmtree(made.settings.run_dir, ignore_errors=True)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not done():
            await asyncio.sleep(0.02)


def log_of(made: Room) -> str:
    return (made.settings.log_dir / "ep_x-0.log").read_text()


async def live(made: Room) -> int:
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status in ("live", "failed"))
    assert (view.status, view.reason) == ("live", None)
    return view.replicas[0].generation


async def test_start_forks_from_a_standby_and_another_is_warmed(make: Make) -> None:
    """The first start waits for a standby too; afterwards one waits warm for the next."""
    made = make()
    await live(made)
    assert [(report.outcome, report.standby) for report in made.reports] == [("ready", True)]
    assert "children are made by fork" in log_of(made)
    await until(lambda: made.fleet.standbys.ready == 1 and bool(made.events("standby_ready")))
    assert [event.fields["memory_bytes"] > 0 for event in made.events("standby_ready")] == [True]


async def test_the_older_layout_forks_too(make: Make) -> None:
    """Up to 0.25 the server is another module without `main`; it is tried only where it is asked to be."""
    made = make(old=True, version="0.25.1", standby_untried=True)
    await live(made)
    assert [(report.outcome, report.standby) for report in made.reports] == [("ready", True)]
    assert "children are made by fork" in log_of(made)


async def test_an_untried_version_starts_plainly(make: Make) -> None:
    """Without being asked to try, nothing is forked."""
    made = make(old=True, version="0.25.1")
    await live(made)
    assert [(report.outcome, report.standby) for report in made.reports] == [("ready", False)]


async def test_forked_children_die_with_their_server(make: Make) -> None:
    """kill -9 of the API server alone: its forked child is gone at once, with nobody to clean up."""
    made = make()
    await live(made)
    intent = made.fleet._intents.read("ep_x", 0)
    assert intent is not None
    assert intent.pid is not None
    children = [found for found in processes.processes() if found.parent == intent.pid]
    assert len(children) >= 1
    slot = made.fleet._endpoints["ep_x"]._slots[0]
    assert slot.replica is not None
    assert slot.replica._start is not None
    assert slot.replica._start.engine is not None
    process = slot.replica._start.engine._process
    slot.replica._start.engine = None  # nobody of ours may help
    slot._task.cancel()
    await asyncio.sleep(0)
    os.kill(intent.pid, signal.SIGKILL)
    alive = [processes.Process(child.pid, child.started) for child in children]
    await until(lambda: not any(child.alive for child in alive))
    await process.wait()
    slot.replica.starter.run_dir.sweep()


async def test_restart_takes_the_warm_one(make: Make) -> None:
    """After a crash the next generation comes from the standby that waited."""
    made = make()
    await live(made)
    await until(lambda: made.fleet.standbys.ready == 1)
    intent = made.fleet._intents.read("ep_x", 0)
    assert intent is not None
    assert intent.pid is not None
    os.killpg(intent.pid, signal.SIGKILL)
    await made.until(lambda view: bool(view.replicas) and view.replicas[0].generation == 2)
    assert [report.standby for report in made.reports] == [True, True]


async def test_busy_threads_make_it_a_plain_launch(make: Make) -> None:
    """Forking a process with threads is unsafe, so the start goes the plain way and says so."""
    made = make({"STUB_THREAD": "1"})
    await live(made)
    assert [report.standby for report in made.reports] == [False]
    assert made.events("standby_failed")[0].fields["reason"] == "threads are running: busy"


async def test_what_became_unsafe_while_it_waited_makes_it_a_plain_launch(make: Make) -> None:
    """A standby that refuses the order says why, and so does the agent."""
    made = make({"STUB_CUDA": "1"})
    await live(made)
    assert [report.standby for report in made.reports] == [False]
    assert [event.fields["reason"] for event in made.events("standby_failed")] == ["CUDA is initialised"]


async def test_a_fork_that_fails_is_followed_by_a_plain_launch(make: Make) -> None:
    """What fails from a standby may be the fork's fault: the next try is plain, also after a permanent failure."""
    made = make({"STUB_FAIL": "1"})
    await live(made)
    assert [(report.outcome, report.standby) for report in made.reports] == [
        ("failed", True),
        ("ready", False),
    ]


async def test_stop_while_the_standby_imports_is_prompt(make: Make) -> None:
    """Nothing is waited for that nobody wants any more, and the standby is gone too."""
    made = make()
    await made.fleet.want(spec())
    await until(lambda: bool(marked(made.settings.home_id)))
    async with asyncio.timeout(20):
        await made.fleet.remove("ep_x")
    assert made.reports[-1].outcome == "stopped"


async def test_standby_ends_when_its_agent_is_gone(make: Make) -> None:
    """A closed control socket is the end of an idle standby, without a signal; the next agent removes its directory."""
    made = make()
    await live(made)
    await until(lambda: made.fleet.standbys.ready == 1)
    standby = made.fleet.standbys._waiting[0]
    standby._control.close()
    await asyncio.wait_for(standby.process.wait(), 120)
    assert len(list(made.settings.run_dir.glob("w.*"))) == 1
    await room(made.settings).fleet.reap_orphans()
    assert list(made.settings.run_dir.glob("w.*")) == []


async def test_a_program_that_is_replaced_on_disk_is_not_run(make: Make, tmp_path: Path) -> None:
    """An agent whose package was upgraded under it warms the program that it speaks with."""
    for name in ("standby.py", "program.py"):
        shutil.copy(Path(standby.__file__).with_name(name), tmp_path / name)
    found = importlib.util.spec_from_file_location("pareta_agent.engine.elsewhere", tmp_path / "standby.py")
    assert found is not None
    assert found.loader is not None
    elsewhere = importlib.util.module_from_spec(found)
    sys.modules[found.name] = elsewhere
    found.loader.exec_module(elsewhere)
    (tmp_path / "program.py").write_text("raise SystemExit('of another version')")
    warm = await elsewhere.warm_up(make().settings, "cpu")
    try:
        assert (await warm.ready())["unsafe"] is None
    finally:
        await warm.discard()
        del sys.modules[found.name]


async def test_dead_standby_is_replaced(make: Make) -> None:
    """A standby that was killed is noticed by the next start, which warms its own."""
    made = make()
    await live(made)
    await until(lambda: made.fleet.standbys.ready == 1)
    await made.fleet.standbys._waiting[0].process.kill_group()
    assert made.fleet.standbys.ready == 0
    await made.fleet.remove("ep_x")
    assert await live(made) == 2
    assert made.reports[-1].standby


async def test_standby_is_off_for_other_programs_and_versions(make: Make) -> None:
    """Only what was tried with real engines forks."""
    made = make(version="0.33.0")
    await live(made)
    assert [report.standby for report in made.reports] == [False]

"""Engines side by side without a GPU: each computes in its part of the cores, started plainly or from a standby."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_room import Room, room, settings, spec
from fakes import stub_vllm

from pareta_agent.engine.process.process_record import Intents
from pareta_agent.hardware.cores import Cores

pytestmark = pytest.mark.slow

MINE = sorted(os.sched_getaffinity(0))
TWO_NODES = Cores(nodes=(((MINE[0], 4001), (4002, 4003)), ((MINE[-1], 4005), (4006, 4007))), at_once=8)
"""One CPU on each node is there, the others are offline."""
NAMES = ("ep_x", "ep_y")


def computes_in(pid: int) -> tuple[str, set[int]]:
    """The threads that its environment tells it, and the CPUs that it is kept to."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    told = next(each for each in environment if each.startswith(b"OMP_NUM_THREADS="))
    return told.decode().partition("=")[2], os.sched_getaffinity(pid)


def pids(state_dir: Path) -> dict[str, int]:
    return {each.endpoint: each.pid for each in Intents(state_dir).all() if each.pid is not None}


async def live(made: Room) -> dict[str, int]:
    made.fleet.expect([f"{name}/0" for name in NAMES])
    for name in NAMES:
        await made.fleet.want(spec(name))
        await made.until(lambda view: view.status == "live", name)
    return pids(made.settings.state_dir)


def detail_of(made: Room, name: str) -> set[str]:
    """What was told of it at the end of a phase."""
    return {getattr(told, "detail", "") for told in made.told if getattr(told, "endpoint", "") == name} - {""}


async def closed(made: Room) -> None:
    await made.fleet.close(5)
    assert made.left_behind() == ([], [])
    made.settings.run_dir.rmdir()


async def test_two_engines_have_a_node_each(tmp_path: Path) -> None:
    """Their threads, their affinity, and what is told of it."""
    made = room(settings(tmp_path), lambda: TWO_NODES)
    found = await live(made)
    assert [computes_in(found[name]) for name in NAMES] == [("2", {MINE[0]}), ("2", {MINE[-1]})]
    assert f"2 threads on CPUs {MINE[0]},4001-4003" in detail_of(made, "ep_x")
    await closed(made)


async def test_what_is_forked_from_a_standby_has_its_part_too(tmp_path: Path) -> None:
    """The standby has imported on one thread; it is told its number and its place when it becomes an engine."""
    python = stub_vllm.write(tmp_path / "engine")
    made = room(settings(tmp_path, command=None, python=python, standby=1), lambda: TWO_NODES)
    found = await live(made)
    assert [report.standby for report in made.reports] == [True, True]
    assert [computes_in(found[name]) for name in NAMES] == [("1", {MINE[0]}), ("1", {MINE[-1]})]
    assert "computes in 2" in (made.settings.log_dir / "ep_y-0.log").read_text()
    await closed(made)


async def test_one_that_comes_later_takes_its_part_and_the_other_keeps_what_it_has(tmp_path: Path) -> None:
    """Nothing that runs is disturbed; the first one finds its part when it starts the next time."""
    made = room(settings(tmp_path), lambda: TWO_NODES)
    await made.fleet.want(spec("ep_x"))
    await made.until(lambda view: view.status == "live", "ep_x")
    first = pids(made.settings.state_dir)["ep_x"]
    found = await live(made)
    assert found["ep_x"] == first
    assert [computes_in(found[name]) for name in NAMES] == [("4", set(MINE)), ("2", {MINE[-1]})]
    await made.fleet.remove("ep_x")
    assert computes_in((await live(made))["ep_x"]) == ("2", {MINE[0]})
    await closed(made)

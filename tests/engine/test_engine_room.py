"""The engine room over real vLLM: killed, frozen, stopped half-way, and answering nonsense."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_plans import PLAN
from engine_room import Room, buried, crash, room, settings, spec

from pareta_agent import processes as launch
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.spec import EngineSpec, FetchProgress, RestartSettings
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.load import builtin_catalog

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
Make = Callable[..., Room]
PATIENT = RestartSettings(first_delay_s=0.1, budget=9)


@pytest.fixture
async def model(tmp_path: Path) -> Path:
    """The demo catalog's small model, converted once into the shared cache."""
    cache = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
    store = WeightsStore(WeightsSettings(tmp_path / "weights", cache / "artifacts"))
    return await store.fetch(builtin_catalog().models[0].variants[0], lambda _: None)


@pytest.fixture
async def make(tmp_path: Path, engine_python: Path) -> AsyncIterator[Make]:
    rooms: list[Room] = []

    def make_room(**changes: object) -> Room:
        fields = {"command": None, "python": engine_python, "standby": 1, "restart": PATIENT, **changes}
        rooms.append(room(settings(tmp_path, **fields)))  # type: ignore[arg-type]
        return rooms[-1]

    yield make_room
    for made in rooms:
        made.fleet.hurry()
        await made.fleet.close(1)
        assert made.left_behind() == ([], [])
        segments = {name for intent in made.fleet._intents.all() for name in intent.segments}
        assert [name for name in segments if Path("/dev/shm", name).exists()] == []
        shutil.rmtree(made.settings.run_dir, ignore_errors=True)


def wanted(model: Path, **changes: object) -> EngineSpec:
    async def fetch(_progress: FetchProgress) -> Path:
        return model

    return spec(fetch=fetch, **changes)


async def until(made: Room, done: Callable[[EndpointView], bool]) -> EndpointView:
    """Like `Room.until`, with the patience that real engines need."""
    async with asyncio.timeout(300):
        while True:
            revision = made.fleet.revision
            view = made.fleet.view().endpoints["ep_x"]
            if done(view):
                return view
            assert view.status != "failed", view.reason
            await made.fleet.changed(revision)


async def standby_warm(made: Room) -> None:
    async with asyncio.timeout(240):
        while made.fleet.standbys.ready == 0:
            await asyncio.sleep(0.2)


def leader_and_core(made: Room) -> tuple[launch.Stat, launch.Stat]:
    """The API server and its engine core: the two processes of an engine on one device."""
    intent = made.fleet._intents.read("ep_x", 0)
    members = [found for found in launch.processes() if intent and found.group == intent.pid]
    leader = next(found for found in members if found.pid == found.group)
    return leader, max(
        (found for found in members if found.parent == leader.pid), key=lambda found: memory(found.pid)
    )


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


async def gone(*processes: launch.Stat) -> None:
    handles = [launch.Process(found.pid, found.started) for found in processes]
    async with asyncio.timeout(120):
        while any(handle.alive for handle in handles):
            await asyncio.sleep(0.05)


SERVER, CORE = 0, 1
KILLED, FROZEN = (SERVER, signal.SIGKILL), (CORE, signal.SIGSTOP)


@pytest.mark.parametrize(
    "hits",
    [(KILLED, FROZEN), pytest.param((KILLED, (CORE, signal.SIGKILL), FROZEN), marks=pytest.mark.long)],
    ids=["two", "all"],
)
async def test_each_process_may_be_killed_or_frozen(
    make: Make, model: Path, hits: tuple[tuple[int, signal.Signals], ...]
) -> None:
    """kill -9 of the server, kill -9 of the core, SIGSTOP of the core: all of it goes, the next generation serves; it
    sleeps and wakes, too, by vLLM's own routes."""
    made = make(progress_s=6.0, idle_canary_s=3.0)
    await made.fleet.want(wanted(model, sleeps=True))
    await until(made, lambda view: view.status == "live")
    for generation, (victim, number) in enumerate(hits, 2):
        await standby_warm(made)
        processes = leader_and_core(made)
        os.kill(processes[victim].pid, number)
        await until(made, lambda view: view.status == "deploying")
        await gone(*processes)
        await until(made, lambda view, g=generation: bool(view.replicas) and view.replicas[0].generation == g)  # type: ignore[misc]
    codes = [event.fields["code"] for event in made.events("engine_ended")]
    assert codes[-1] == "engine_stalled"
    assert [report.standby for report in made.reports] == [True] * (len(hits) + 1)
    leader, _ = leader_and_core(made)
    await made.fleet.sleep("ep_x", keep=True)
    async with asyncio.timeout(120):
        while not made.events("engine_slept"):
            await asyncio.sleep(0.05)
    made.fleet.wake("ep_x")
    await until(made, lambda view: view.status == "live")
    assert (leader_and_core(made)[0].pid, made.reports[-1].cause) == (leader.pid, "resume")
    await made.fleet.remove("ep_x")


@pytest.mark.long
async def test_the_next_agent_takes_a_real_engine_over(make: Make, model: Path) -> None:
    """Its agent is gone at once; the same process, asked its canary again, is live within seconds."""
    new = make(standby=0)
    old = room(new.settings)
    await old.fleet.want(wanted(model))
    await until(old, lambda view: view.status == "live")
    leader, _ = leader_and_core(old)
    await crash(old)
    await new.fleet.reap_orphans()
    await new.fleet.want(wanted(model))
    async with asyncio.timeout(20):
        await until(new, lambda view: view.status == "live")
    assert leader_and_core(new)[0].pid == leader.pid
    assert [event.fields["outcome"] for event in new.events("engine_adopted")] == ["ready"]
    await new.fleet.remove("ep_x")
    await buried()


@pytest.mark.long
@pytest.mark.parametrize("standby", [0, 1])
async def test_stop_at_any_moment_of_the_start(make: Make, model: Path, standby: int) -> None:
    """vLLM swallows SIGTERM while it starts; a stop at any moment leaves nothing within seconds."""
    made = make(standby=standby)
    for moment_s in (0.3, 3.0, 8.0, 14.0):
        await made.fleet.want(wanted(model))
        await asyncio.sleep(moment_s)
        async with asyncio.timeout(5):
            await made.fleet.remove("ep_x")
        standbys = {standby.process.pid for standby in made.fleet.standbys._waiting}
        assert [found for found in marked(made.settings.home_id) if found.group not in standbys] == []


@pytest.mark.long
async def test_compiled_mode_on_cpu_does_not_get_past_the_canary(make: Make, model: Path) -> None:
    """Healthy and wrong: where the compiled engine talks nonsense, the endpoint never goes live and says why."""
    made = make(standby=0)
    await made.fleet.want(wanted(model, plan=replace(PLAN, enforce_eager=False)))
    async with asyncio.timeout(400):
        while (view := made.fleet.view().endpoints["ep_x"]).status == "deploying":
            await made.fleet.changed(made.fleet.revision)
    ended = made.events("engine_ended")
    assert (view.status, view.reason) == ("failed", "the engine answers, but wrongly: the canary failed"), (
        ended
    )
    assert "expected 'Paris'" in ended[0].fields["detail"]

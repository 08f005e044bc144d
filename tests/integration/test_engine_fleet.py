"""The fleet over the fake engine: real processes, sockets and signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_plans import PLAN
from engine_room import Room, rooms_in, spec

from pareta_agent.engine.process.engine_process import marked
from pareta_agent.hardware.inventory import Gpu

Make = Callable[..., Room]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with rooms_in(tmp_path) as make_room:
        yield make_room


async def test_endpoint_goes_live_and_ends_without_a_trace(make: Make) -> None:
    """Phases in order, one report, a private socket; afterwards no process and no file."""
    made = make()
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "live")
    replica = view.replicas[0]
    assert (replica.name, replica.generation, replica.engine_version) == ("ep_x/0", 1, "0.32.0")
    assert replica.socket.parent.stat().st_mode & 0o777 == 0o700
    assert [report.outcome for report in made.reports] == ["ready"]
    assert list(made.reports[0].phases)[:3] == ["fetch", "spawn", "import"]
    assert made.reports[0].measures.kv_tokens == 46_592
    await made.fleet.remove("ep_x")
    assert made.fleet.view().endpoints["ep_x"].status == "stopped"
    assert made.left_behind() == ([], [])


async def test_same_wish_changes_nothing_and_a_new_one_replaces(make: Make) -> None:
    """`want` is level-based: the equal spec keeps the engine, another plan starts the next generation."""
    made = make()
    await made.fleet.want(spec())
    first = await made.until(lambda view: view.status == "live")
    await made.fleet.want(spec())
    assert made.fleet.view().endpoints["ep_x"] == first
    await made.fleet.want(spec(revision="sha256:other"))
    await made.until(lambda view: view.status == "live" and view.replicas[0].generation == 2)
    assert [report.cause for report in made.reports] == ["deploy", "replan"]


async def test_crash_is_restarted_as_the_next_generation(make: Make) -> None:
    """kill -9 of a serving engine: the view drops it at once, and generation 2 comes up."""
    made = make()
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "live")
    for found in marked(made.settings.home_id):
        os.kill(found.pid, signal.SIGKILL)
    await made.until(lambda view: view.status == "deploying" and view.replicas == ())
    view = await made.until(lambda view: view.status == "live")
    assert view.replicas[0].generation == 2
    assert (
        made.events("engine_ended")[0].fields["reason"] == "the engine was killed by signal 9 while it served"
    )
    assert [report.cause for report in made.reports] == ["deploy", "restart"]


async def test_engine_that_dies_at_start_ends_in_a_verdict(make: Make) -> None:
    """After its budget the endpoint is failed, with a reason for callers and the log's last lines for the owner."""
    made = make("--die-at-start")
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "failed")
    assert view.reason is not None
    assert view.reason.endswith("; gave up after 3 failures in a row")
    assert view.retry_after_s is None
    assert [report.outcome for report in made.reports] == ["failed"] * 3
    assert len(made.events("engine_given_up")) == 1
    assert "nowhere" not in view.reason


async def test_wrong_answer_never_goes_live(make: Make) -> None:
    """A healthy engine that fails the canary is ended at once, and not tried again."""
    made = make("--wrong-text")
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "failed")
    assert view.reason == "the engine answers, but wrongly: the canary failed"
    assert [report.outcome for report in made.reports] == ["failed"]
    assert "expected 'Paris'" in made.events("engine_ended")[0].fields["detail"]


async def test_without_canary_health_is_enough(make: Make) -> None:
    """`canary=False` goes live on health alone."""
    made = make("--wrong-text", canary=False)
    await made.fleet.want(spec())
    assert (await made.until(lambda view: view.status == "live")).reason is None


async def test_stop_while_starting_kills_at_once(make: Make) -> None:
    """An engine that swallows SIGTERM and would need a minute is gone within seconds of the wish."""
    made = make("--ready-after", "60", "--ignore-term", "--fork-child")
    await made.fleet.want(spec())
    while len(marked(made.settings.home_id)) < 2:
        await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        await made.fleet.remove("ep_x")
    assert made.left_behind() == ([], [])
    assert [report.outcome for report in made.reports] == ["stopped"]


async def test_stop_waits_for_the_drain_then_kills_what_ignores_it(make: Make) -> None:
    """Routing stops first, `drain` is awaited, and an engine deaf to SIGTERM is killed with its children."""
    made = make("--ignore-term", "--fork-child")
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "live")
    seen: list[tuple[str, int]] = []

    async def drain() -> None:
        view = made.fleet.view().endpoints["ep_x"]
        seen.append((view.status, len(view.replicas)))

    stopping = asyncio.create_task(made.fleet.remove("ep_x", drain, 0.2))
    while not seen:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    made.fleet.hurry()
    async with asyncio.timeout(20):
        await stopping
    assert seen == [("stopped", 0)]
    assert made.left_behind() == ([], [])


async def test_retry_after_counts_down_from_history(make: Make) -> None:
    """A second start of the same endpoint expects what the first one took."""
    made = make("--ready-after", "0.5")
    await made.fleet.want(spec())
    first = await made.until(lambda view: view.status == "deploying")
    assert first.retry_after_s is not None
    assert first.retry_after_s > 10
    await made.until(lambda view: view.status == "live")
    await made.fleet.remove("ep_x")
    await made.fleet.want(spec())
    again = await made.until(lambda view: view.status == "deploying")
    assert again.retry_after_s is not None
    assert 1 <= again.retry_after_s <= 2 * made.reports[0].total_s + 3


async def test_orphans_of_a_killed_agent_are_found_by_marker(make: Make) -> None:
    """Where nothing is to be adopted, a new fleet of the home ends what the old one left and sweeps its files."""
    old = make("--fork-child")
    await old.fleet.want(spec())
    await old.until(lambda view: view.status == "live")
    running = len(marked(old.settings.home_id))
    new = make("--fork-child", adopt=False)
    assert await new.fleet.reap_orphans() == running
    assert new.left_behind() == ([], [])
    old.fleet.hurry()
    await old.fleet.remove("ep_x")
    await new.fleet.want(spec())
    assert (await new.until(lambda view: view.status == "live")).replicas[0].generation >= 2


async def test_two_endpoints_run_side_by_side(make: Make) -> None:
    """Each has its own process, socket and canary; one failing start does not hold up the other."""
    made = make()
    await asyncio.gather(made.fleet.want(spec("ep_a")), made.fleet.want(spec("ep_b")))
    a = await made.until(lambda view: view.status == "live", "ep_a")
    b = await made.until(lambda view: view.status == "live", "ep_b")
    assert a.replicas[0].socket != b.replicas[0].socket


async def test_missing_interpreter_is_a_verdict_not_a_crash(make: Make) -> None:
    """Without a command and without an interpreter the endpoint fails with what to do."""
    made = make(command=None, python=None)
    await made.fleet.want(spec())
    view = await made.until(lambda view: view.status == "failed")
    assert view.reason == "the engine's starting step failed (engine_missing)"
    assert made.events("engine_given_up")[0].fields["remedy"] == "run `pareta-agent engine install`"
    assert made.events("engine_given_up")[0].fields["exit_code"] == 4


async def test_replicas_of_one_endpoint_are_separate_engines(make: Make) -> None:
    """A plan with two replicas shows both when both are ready."""
    made = make()
    await made.fleet.want(spec(plan=replace(PLAN, replicas=2, gpus=((), ()))))
    view = await made.until(lambda view: len(view.replicas) == 2)
    assert [replica.name for replica in view.replicas] == ["ep_x/0", "ep_x/1"]


async def test_idle_endpoint_sleeps_and_wakes(make: Make) -> None:
    """Asleep it holds no process and shows `cold` with an expectation; it wakes as the next generation."""
    made = make()
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "live")
    made.fleet.wake("ep_x")
    assert made.fleet.view().endpoints["ep_x"].status == "live"
    await made.fleet.sleep("ep_x")
    view = made.fleet.view().endpoints["ep_x"]
    assert (view.status, view.replicas) == ("cold", ())
    assert view.retry_after_s is not None
    assert view.retry_after_s <= 2 * made.reports[0].total_s + 3
    assert made.left_behind() == ([], [])
    made.fleet.wake("ep_x")
    view = await made.until(lambda view: view.status == "live")
    assert (view.replicas[0].generation, made.reports[-1].cause) == (2, "wake")
    await made.fleet.sleep("ep_x")
    await made.fleet.remove("ep_x")
    made.fleet.wake("ep_x")
    assert made.fleet.view().endpoints["ep_x"].status == "stopped"


async def test_the_gpu_is_free_before_the_engine_counts_as_ended(make: Make) -> None:
    """The memory of a killed engine comes back late: the stop waits for it."""
    made = make()
    readings = iter([80, 20, 30, 80])
    seen: list[int] = []

    def read() -> tuple[Gpu, ...]:
        seen.append(next(readings))
        return (Gpu(uuid="GPU-a", memory_free_bytes=seen[-1] * 1024**3),)

    made.fleet._context.read_gpus = read
    gpu_plan = replace(
        PLAN, platform="cuda", gpus=(("GPU-a",),), gpu_memory_utilization=0.9, kv_cache_bytes=None
    )
    await made.fleet.want(spec(plan=gpu_plan))
    await made.until(lambda view: view.status == "live")
    await made.fleet.remove("ep_x")
    assert seen == [80, 20, 30, 80]
    assert made.events("gpu_memory_held") == []


async def test_given_up_endpoint_can_be_retried(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given up stays so under the same wish, until somebody asks for another try."""
    monkeypatch.setenv("FAKE_ENGINE_FLAGS", "--die-at-start")
    made = make()
    await made.fleet.want(spec())
    await made.until(lambda view: view.status == "failed")
    monkeypatch.delenv("FAKE_ENGINE_FLAGS")
    await made.fleet.want(spec())
    assert made.fleet.view().endpoints["ep_x"].status == "failed"
    made.fleet.retry("ep_x")
    assert (await made.until(lambda view: view.status == "live")).reason is None


async def test_empty_fleet_closes(make: Make) -> None:
    """Nothing wanted, nothing shown, nothing to wait for."""
    made = make()
    assert made.fleet.view().endpoints == {}
    await made.fleet.close(0)

"""Engines that sleep with their weights in the host's memory: they wake as they were, or are started anew."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from engine_room import Room, crash, rooms_in, spec

from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.process.run_dir import run_dir_of
from pareta_agent.engine.spec import PhaseLimits
from pareta_agent.engine.vllm import client

Make = Callable[..., Room]
BRIEF_LOAD = PhaseLimits(load_s=3.0)
pytestmark = pytest.mark.slow


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with rooms_in(tmp_path, heirs=True) as make_room:
        yield make_room


async def live(made: Room, **changes: object) -> tuple[int, int | None]:
    """Generation and pid of the engine, once it is live."""
    await made.fleet.want(spec(**{"sleeps": True, **changes}))
    return await awake(made)


async def awake(made: Room) -> tuple[int, int | None]:
    view = await made.until(lambda view: view.status == "live")
    return view.replicas[0].generation, pid(made)


def pid(made: Room) -> int | None:
    intent = made.fleet._intents.read("ep_x", 0)
    return intent.pid if intent and not intent.ended else None


async def asleep(made: Room) -> None:
    """Puts it to sleep, and waits until it is."""
    told = len(made.events("engine_slept"))
    await made.fleet.sleep("ep_x", keep=True)
    await eventually(lambda: len(made.events("engine_slept")) > told)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.02)


async def test_it_sleeps_and_wakes_as_it_was(make: Make) -> None:
    """The same process under the same generation, proven again, and told as a start of its own kind."""
    made = make()
    before = await live(made)
    await asleep(made)
    view = made.fleet.view().endpoints["ep_x"]
    assert (view.status, view.replicas, made.fleet.runs("ep_x")) == ("cold", (), False)
    assert made.fleet.asleep_bytes() == {"ep_x": spec().plan.all_weights_bytes}
    for _ in range(3):
        made.fleet.wake("ep_x")
    assert await awake(made) == before
    assert [(each.cause, each.outcome) for each in made.reports] == [("deploy", "ready"), ("resume", "ready")]
    assert list(made.reports[-1].phases) == ["load", "probe"]
    assert {each.cause for each in made.fleet.start_times()} == {"deploy", "resume"}
    assert made.fleet.asleep_bytes() == {}


async def test_what_is_under_way_is_finished_first(make: Make) -> None:
    """A request at the engine keeps it awake, though no other one comes to it any more."""
    held, made = 1, make()
    made.fleet.watch(lambda _name: held)
    await live(made)
    socket = run_dir_of(made.settings, "ep_x", 0, 1).socket
    await made.fleet.sleep("ep_x", keep=True)
    await asyncio.sleep(0.5)
    assert (made.fleet.view().endpoints["ep_x"].replicas, await client.is_sleeping(socket)) == ((), False)
    held = 0
    await eventually(lambda: bool(made.events("engine_slept")))
    assert await client.is_sleeping(socket)


async def test_nothing_sleeps_while_a_call_waits_for_it(make: Make) -> None:
    """Whoever asks for it, and however its engine would sleep; once nobody waits it may."""
    waiting, made = 1, make()
    made.fleet.watch(lambda _name: 0, lambda name: waiting * (name == "ep_x"))
    before = await live(made)
    for keep in (True, False):
        await made.fleet.sleep("ep_x", keep=keep)
        assert made.fleet.view().endpoints["ep_x"].status == "live"
    assert (pid(made), made.events("engine_slept")) == (before[1], [])
    waiting = 0
    await asleep(made)


async def test_every_moment_that_was_cold_counts(make: Make) -> None:
    """One that was asleep for less than a turn of the loop is live since then, though nobody saw it cold."""
    made = make()
    await live(made)
    before_s = made.fleet.view().endpoints["ep_x"].live_since_s
    sleeping = made.fleet.sleep("ep_x", keep=True)
    slept_s = made.fleet.asleep_since_s("ep_x")
    made.fleet.wake("ep_x")
    await sleeping
    view = made.fleet.view().endpoints["ep_x"]
    assert (view.status, view.live_since_s >= slept_s > before_s) == ("live", True)
    await asleep(made)
    made.fleet.wake("ep_x")
    await awake(made)
    assert (
        made.fleet.view().endpoints["ep_x"].live_since_s
        > made.fleet.asleep_since_s("ep_x")
        > view.live_since_s
    )


async def test_one_that_is_called_as_it_lies_down_stays_up(make: Make) -> None:
    """Between the last look at its requests and its sleep it was woken: it is live, so that it must not sleep."""
    asked, made = 0, make()

    def none_at_first(_name: str) -> int:
        nonlocal asked
        asked += 1
        if made.fleet.sleeps("ep_x"):
            asyncio.get_running_loop().call_soon(made.fleet.wake, "ep_x")
        return 0

    made.fleet.watch(none_at_first)
    before = await live(made)
    await made.fleet.sleep("ep_x", keep=True)
    await eventually(lambda: not made.fleet.sleeps("ep_x"))
    await asyncio.sleep(0.3)
    assert [event.fields["state"] for event in made.events("replica_moved")][-1] == "ready"
    assert await awake(made) == before
    assert asked


async def test_nobody_asks_a_sleeper_anything(make: Make) -> None:
    """Neither the watchdog nor its canary, which would end this engine."""
    made = make(progress_s=2.0, idle_canary_s=0.2)
    before = await live(made)
    await asleep(made)
    await asyncio.sleep(4.0)
    made.fleet.wake("ep_x")
    assert await awake(made) == before


@pytest.mark.parametrize(
    ("flag", "code"),
    [
        ("--wake-hangs", "engine_hung"),
        ("--wake-fails", "engine_not_woken"),
        ("--wake-garbles", "canary_wrong"),
    ],
)
async def test_one_that_wakes_wrong_is_started_anew(make: Make, flag: str, code: str) -> None:
    """Nobody hears from it; its successor answers, and is ended rather than put to sleep when its time comes."""
    made = make(flag, limits=BRIEF_LOAD)
    await live(made)
    await asleep(made)
    made.fleet.wake("ep_x")
    assert (await awake(made))[0] == 2
    assert [event.fields["code"] for event in made.events("engine_ended")] == [code]
    assert [(each.cause, each.outcome) for each in made.reports[1:]] == [
        ("resume", "failed"),
        ("restart", "ready"),
    ]
    await made.fleet.sleep("ep_x", keep=True)
    assert (made.left_behind()[0], made.fleet.view().endpoints["ep_x"].status) == ([], "cold")
    made.fleet.wake("ep_x")
    assert (await awake(made))[0] == 3


async def test_one_that_dies_asleep_is_missed_only_when_it_is_called(make: Make) -> None:
    """Its end is told, nothing is started for nobody, and the call that comes has the next generation."""
    made = make()
    _, first = await live(made)
    await asleep(made)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: bool(made.events("engine_ended")))
    await eventually(lambda: made.left_behind() == ([], []))
    await asyncio.sleep(0.3)
    assert (made.left_behind(), made.fleet.view().endpoints["ep_x"].status) == (([], []), "cold")
    assert made.events("restart_scheduled") == []
    made.fleet.wake("ep_x")
    assert (await awake(made))[0] == 2
    assert made.reports[-1].cause == "wake"


async def test_one_that_cannot_fall_asleep_is_ended(make: Make) -> None:
    """Its devices are wanted back either way."""
    made = make("--sleep-fails")
    await live(made)
    await made.fleet.sleep("ep_x", keep=True)
    await eventually(lambda: bool(made.events("engine_ended")) and made.left_behind() == ([], []))
    assert made.events("engine_ended")[0].fields["code"] == "engine_not_asleep"
    made.fleet.wake("ep_x")
    assert (await awake(made))[0] == 2


async def test_one_that_was_not_started_for_it_ends(make: Make) -> None:
    """And one that is in the way of others, or slept for long, ends too."""
    made = make()
    await live(made, sleeps=False)
    await made.fleet.sleep("ep_x", keep=True)
    assert made.left_behind() == ([], [])
    await live(made, revision="sha256:other")
    await asleep(made)
    assert made.fleet.is_terminating("ep_x")
    await made.fleet.evict("ep_x")
    assert (made.left_behind(), made.fleet.is_terminating("ep_x")) == (([], []), False)
    assert made.fleet.view().endpoints["ep_x"].status == "cold"


async def test_each_start_asks_whether_it_may_sleep(make: Make) -> None:
    """One that was to stay awake when it started ends, when by now it may sleep; from its next start on it can."""
    made, answers = make(), iter([False, True])
    await live(made, may_sleep=lambda: next(answers))
    await made.fleet.sleep("ep_x", keep=True)
    assert made.left_behind() == ([], [])
    made.fleet.wake("ep_x")
    before = await awake(made)
    await asleep(made)
    made.fleet.wake("ep_x")
    assert await awake(made) == before


@pytest.mark.parametrize("flag", ["--wake-hangs", None])
async def test_it_is_stopped_at_any_hour(make: Make, flag: str | None) -> None:
    """Asleep, and while it wakes."""
    made = make(*([flag] if flag else []))
    await live(made)
    await asleep(made)
    if flag:
        made.fleet.wake("ep_x")
        await eventually(lambda: made.fleet.view().endpoints["ep_x"].status == "deploying")
    await made.fleet.remove("ep_x")
    assert made.left_behind() == ([], [])
    assert made.fleet.view().endpoints["ep_x"].status == "stopped"


async def test_the_next_agent_takes_a_sleeper_over(make: Make) -> None:
    """It sleeps on, nobody waits for it to be live, and it is proven when it is called."""
    old = make()
    before = await live(old)
    await asleep(old)
    await crash(old)
    new = make()
    assert await new.fleet.reap_orphans() == 0
    assert new.fleet.kept == frozenset()
    await new.fleet.want(spec(sleeps=True))
    await eventually(lambda: bool(new.events("engine_slept")))
    assert new.events("engine_adopted")[0].fields["outcome"] == "asleep"
    assert (new.fleet.view().endpoints["ep_x"].status, pid(new)) == ("cold", before[1])
    new.fleet.wake("ep_x")
    assert await awake(new) == before
    assert [each.cause for each in new.reports] == ["resume"]


async def test_a_sleeper_that_is_no_more_is_not_replaced_before_it_is_called(make: Make) -> None:
    """It died after the new agent had found it; other weights that are wanted meanwhile start at once."""
    old = make()
    await live(old)
    await asleep(old)
    await crash(old)
    new = make()
    await new.fleet.reap_orphans()
    (process,) = {found.pid for found in marked(new.settings.home_id)}
    os.kill(process, signal.SIGKILL)
    await eventually(lambda: not marked(new.settings.home_id))
    await new.fleet.want(spec(sleeps=True))
    await asyncio.sleep(0.3)
    assert new.fleet.view().endpoints["ep_x"].status == "cold"
    new.fleet.wake("ep_x")
    assert (await awake(new))[0] == 2


async def test_only_sleep_mode_opens_those_routes(make: Make) -> None:
    """The socket is in a directory of 0700; an engine that is not to sleep has no such routes at all."""
    made = make()
    await live(made, sleeps=False)
    socket = run_dir_of(made.settings, "ep_x", 0, 1).socket
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    async with client.session(socket, 5.0) as http, http.post("http://engine/sleep?level=1") as answer:
        assert answer.status == 404

"""A replica's owner task under any order of wishes and accidents: it ends, once, and reports once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engine_room
from hypothesis import given, settings
from hypothesis import strategies as st

from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica.lifecycle import ReplicaEvent, ReplicaState
from pareta_agent.engine.replica.replica import Replica
from pareta_agent.engine.replica.sleeping import SleepSwitch
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.engine.vllm.log_lines import StartMeasures
from pareta_agent.errors import HostError

HAPPENINGS = (
    "fetched",
    "fetch_failed",
    "passed",
    "failed",
    "hung",
    "died",
    "drained",
    "rest",
    "asleep",
    "not_asleep",
    "rise",
    "awake",
    "not_awake",
    "stop",
    "kill",
    "turn",
)
OUTCOMES = {"passed": ReplicaEvent.PASSED, "failed": ReplicaEvent.FAILED, "hung": ReplicaEvent.HUNG}


class StillClock:
    """Time does not pass: nobody's patience ends by itself."""

    def wall_s(self) -> float:
        return 0.0

    mono_s = boot_s = wall_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@dataclass
class World:
    """Everything that a replica meets, moved by the test: fetch, start, process, drain."""

    fetched: asyncio.Future[Path] = field(default_factory=asyncio.Future)
    outcome: asyncio.Future[ReplicaEvent] = field(default_factory=asyncio.Future)
    died: asyncio.Event = field(default_factory=asyncio.Event)
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    asleep: asyncio.Future[bool] = field(default_factory=asyncio.Future)
    awake: asyncio.Future[bool] = field(default_factory=asyncio.Future)
    running: bool = False
    starts: int = 0
    measures: StartMeasures = field(default_factory=StartMeasures)
    warm: bool = False
    pid: int = 1
    gpu_baseline: dict[str, int] = field(default_factory=dict)

    @property
    def engine(self) -> World | None:
        return self if self.starts else None

    async def fetch(self, _progress: object) -> Path:
        return await asyncio.shield(self.fetched)

    def start(self, _weights: Path, _phases: object) -> World:
        return self

    async def run(self) -> tuple[ReplicaEvent, exit_reasons.ExitReason]:
        self.starts, self.running = self.starts + 1, True
        exited = asyncio.ensure_future(self.died.wait())
        await asyncio.wait({exited, self.outcome}, return_when=asyncio.FIRST_COMPLETED)
        exited.cancel()
        if self.died.is_set():
            return ReplicaEvent.EXITED, exit_reasons.of_exit(1, [], ready=False)
        event = self.outcome.result()
        passed = event is ReplicaEvent.PASSED
        return event, exit_reasons.STOPPED if passed else exit_reasons.of_hang("load", 1.0, [])

    async def fell_asleep(self, timeout_s: float) -> bool:
        return await asyncio.shield(self.asleep)

    async def woke_up(self, timeout_s: float) -> bool:
        return await asyncio.shield(self.awake)

    async def canaries(self, _exited: object) -> tuple[ReplicaEvent, exit_reasons.ExitReason]:
        return ReplicaEvent.PASSED, exit_reasons.STOPPED

    def ended(self, status: int) -> tuple[ReplicaEvent, exit_reasons.ExitReason]:
        return ReplicaEvent.EXITED, exit_reasons.of_exit(status, [], ready=True)

    async def settled(self) -> World | None:
        return self.engine

    async def wait(self) -> int:
        await self.died.wait()
        return -9

    async def stop(self, *, term_s: float, hurry: asyncio.Event) -> bool:
        self.running = False
        return True

    def kill(self) -> None:
        self.running = False

    def last_lines(self) -> list[str]:
        return []

    async def drain(self) -> None:
        await self.drained.wait()

    def happen(self, what: str, replica: Replica) -> None:
        if what == "fetched" and not self.fetched.done():
            self.fetched.set_result(Path("/w"))
        elif what == "fetch_failed" and not self.fetched.done():
            self.fetched.set_exception(HostError("disk_full", "no room"))
        elif what in OUTCOMES and not self.outcome.done():
            self.outcome.set_result(OUTCOMES[what])
        elif what == "died":
            self.died.set()
        elif what == "drained":
            self.drained.set()
        elif what in ("rest", "rise"):
            replica._sleep_switch.set(what == "rest")
        elif what in ("asleep", "not_asleep") and not self.asleep.done():
            self.asleep.set_result(what == "asleep")
        elif what in ("awake", "not_awake") and not self.awake.done():
            self.awake.set_result(what == "awake")
        elif what in ("stop", "kill"):
            replica.post(ReplicaEvent(what))


def replica_in(world: World, reports: list[ColdStartReport], states: list[ReplicaState]) -> Replica:
    pool = SimpleNamespace(warm=nothing, start_begins=lambda: None, start_ended=lambda *_: None)
    spec = engine_room.spec(fetch=world.fetch)
    quiet = engine_room.settings(Path("/nowhere"))
    starter: Any = SimpleNamespace(
        spec=spec,
        settings=quiet,
        clock=StillClock(),
        name="ep_x/0",
        generation=1,
        adopted=None,
        run_dir=SimpleNamespace(sweep=lambda: None, name="ep_x/0", socket=Path("/nowhere")),
        pool=pool,
        read_gpus=tuple,
        start=world.start,
    )
    made = Replica(
        spec,
        starter,
        quiet,
        StillClock(),
        lambda _: None,
        lambda: None,
        reports.append,
        lambda _: 0,
        "deploy",
        SleepSwitch(),
    )
    made._on_change = lambda: states.append(made.state)
    made.drain = world.drain
    return made


async def nothing(*_: object) -> None: ...


async def live(happenings: list[str]) -> tuple[list[ColdStartReport], list[ReplicaState], World]:
    world, reports, states = World(), [], [ReplicaState.PENDING]
    replica = replica_in(world, reports, states)
    task = asyncio.create_task(replica.run())
    for what in happenings:
        world.happen(what, replica)
        for _ in range(5):
            await asyncio.sleep(0)
    replica.post(ReplicaEvent.KILL)
    await asyncio.wait_for(task, 60)
    if world.fetched.done():
        world.fetched.exception()
    return reports, states, world


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(HAPPENINGS), max_size=14))
def test_every_life_ends_once_and_is_reported_once(happenings: list[str]) -> None:
    """No order of wishes and accidents is illegal, resurrects, leaves a process or tells a start twice."""
    reports, states, world = asyncio.run(live(happenings))
    once = [
        state
        for state in states
        if state not in (ReplicaState.READY, ReplicaState.ASLEEP, ReplicaState.WAKING)
    ]
    assert once == sorted(set(once), key=list(ReplicaState).index)
    assert states[-1] is ReplicaState.ENDED
    assert len(reports) == 1 + states.count(ReplicaState.WAKING)
    assert world.starts <= 1
    assert not world.running


def test_the_good_life_passes_through_every_state() -> None:
    """The world above lets a replica live to the full: what is checked at random is not checked in vain."""
    night = ["rest", "asleep", "turn", "rise", "awake"]
    reports, states, _ = asyncio.run(live(["turn", "fetched", "passed", *night, "turn", "stop", "drained"]))
    assert list(dict.fromkeys(states)) == list(ReplicaState)
    assert [(each.cause, each.outcome) for each in reports] == [("deploy", "ready"), ("resume", "ready")]

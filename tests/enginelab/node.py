"""A whole node on real vLLM under load, whose engine or agent is killed, frozen or stopped; its ledger afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fakes.ports import free_port
from harness import Agent, processes_of

from enginelab.calls import ENDPOINT, Call, Load, account, in_flight, words
from enginelab.remains import Engine, Remains, home_left, home_settings, remains, seen, settled
from pareta_agent import processes
from pareta_agent.engine.process.engine_process import marked

_LIVE_S = 240.0
_SILENT = "before the first"
_STALL_S = 60.0
"""What the watchdog allows (`engine.spec`)."""


class Node:
    """One home, the agent that serves it now, every call of it so far, and all shared memory that was ever seen."""

    def __init__(self, home: Path, python: Path, **settings: str) -> None:
        self.home = home
        self.where = home_settings(home)
        self.segments: set[str] = set()
        self.calls: list[Call] = []
        self._env = {"PARETA_ENGINE_PYTHON": str(python), "PARETA_PLANE_BALANCE_USD": "100000", **settings}
        self._port = free_port()
        self.begin()

    def begin(self) -> None:
        self.agent = Agent(self.home, "--drain-timeout", "5", settings=self._env, port=self._port)

    async def ready(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.agent.ready, _LIVE_S)

    def engine(self) -> Engine:
        found = seen(self.where, ENDPOINT)
        assert found is not None, "no engine runs"
        self.segments |= found.segments
        return found

    def strays(self, engine: Engine) -> Remains:
        """What is there beside that engine and the standbys of the agent that runs now."""
        marks = marked(self.where.home_id)
        own = {engine.leader.pid} | {f.pid for f in marks if f.parent == self.agent.process.pid}
        directories = {engine.directory} | {Path(f"/proc/{pid}/cwd").readlink() for pid in own}
        return remains(
            {f.pid for f in marks if f.group not in own},
            (path for path in self.where.run_dir.glob("*") if path.is_dir() and path not in directories),
            self.segments - engine.segments,
        )

    async def live_again(self, generation: int, base_url: str, key: str) -> float:
        """Waits for an engine past that generation that answers; seconds until then."""
        begun_s = time.monotonic()
        async with asyncio.timeout(_LIVE_S):
            while True:
                load = Load(base_url, key, callers=1, tokens=1)
                (last,) = await load.end()
                self.calls.append(last)
                newer = seen(self.where, ENDPOINT)
                if last.said == "whole" and newer is not None and newer.generation > generation:
                    return time.monotonic() - begun_s
                await asyncio.sleep(0.2)

    async def warm(self) -> None:
        """Until a standby waits for the next start."""
        await asyncio.to_thread(self.agent.wait_for, "standby_ready", 120.0)


@asynccontextmanager
async def node(home: Path, python: Path, **settings: str) -> AsyncIterator[Node]:
    found = Node(home, python, **settings)
    try:
        yield found
    finally:
        await asyncio.to_thread(found.agent.__exit__)
        assert (home_left(found.where, found.segments).processes, processes_of(home)) == (0, [])


async def engine_fault(
    made: Node, ready: dict[str, Any], key: str, role: str, number: signal.Signals
) -> dict[str, Any]:
    """Hits one process of the engine under load; the row. A frozen engine's callers wait for the watchdog."""
    load = Load(ready["base_url"], key)
    await asyncio.sleep(2.0)
    engine = made.engine()
    os.kill(engine.members[role].pid, number)
    hit_s = fault_s = time.monotonic()
    if role == "tracker":
        await asyncio.sleep(3.0)
        survived = made.engine().generation == engine.generation
        calls = await load.end()
        return _row(made, f"{number.name} of the tracker under load", calls, [(hit_s, hit_s)], Remains()) | {
            "served_on": survived,
            "holds": survived and {call.said for call in calls} == {"whole"},
        }
    if number is signal.SIGSTOP:
        fault_s = await asyncio.to_thread(_gone_s, engine)
        ended = await asyncio.to_thread(made.agent.wait_for, "engine_ended", _STALL_S + 30)
        assert ended["code"] == "engine_stalled", ended
    left = await engine.gone()
    live_s = await made.live_again(engine.generation, ready["base_url"], key)
    calls = await load.end()
    row = _row(made, f"{number.name} of the {role} under load", calls, [(hit_s, fault_s)], left)
    return row | {"live_again_s": round(live_s, 1), "noticed_after_s": round(fault_s - hit_s, 1)}


async def agent_kills(made: Node, ready: dict[str, Any], key: str, rounds: int) -> dict[str, Any]:
    """kill -9 of the agent and a new one, again and again under load: one engine throughout."""
    load, engine, moments, left = Load(ready["base_url"], key), made.engine(), [], 0
    for _ in range(rounds):
        await asyncio.sleep(random.uniform(0.3, 1.0))
        moments.append((time.monotonic(),) * 2)
        await asyncio.to_thread(made.agent.kill)
        made.begin()
        await made.ready()
        left += processes.adopt(engine.leader.pid, engine.leader.started) is None
    calls = await load.end()
    beside = await settled(lambda: made.strays(engine))
    fault = f"kill -9 of the agent and a restart, {rounds} times, under load"
    row = _row(made, fault, calls, moments, beside)
    return row | {"engines_replaced": left, "holds": row["holds"] and left == 0}


async def stops(home: Path, python: Path, moments_s: Sequence[float], **settings: str) -> dict[str, Any]:
    """SIGTERM to a node whose engine starts, at each of these moments; it must end cleanly and leave nothing."""
    left, took_s, codes, phases = Remains(), [], [], []
    for moment_s in moments_s:
        made = Node(home, python, **settings)
        await asyncio.sleep(moment_s)
        engine = seen(made.where, ENDPOINT)
        segments = engine.segments if engine else frozenset[str]()
        told = [event["phase"] for event in made.agent.events if event["event"] == "phase"]
        begun_s = time.monotonic()
        codes.append(await asyncio.to_thread(made.agent.stop))
        took_s.append(time.monotonic() - begun_s)
        phases.append(told[-1] if told else _SILENT)
        found = home_left(made.where, segments)
        left += Remains(
            found.processes, _engine_files(made.where.run_dir), found.segments, found.memory_bytes
        )
        assert processes_of(home) == []
    return {
        "fault": f"SIGTERM of the node at {len(moments_s)} random moments of the start"
        + (f", {settings}" if settings else ""),
        "moments": len(moments_s),
        "phases": {phase: phases.count(phase) for phase in sorted(set(phases))},
        "exit_codes": sorted(set(codes)),
        "stop_s_max": round(max(took_s), 2),
        **{f"left_{name}": value for name, value in asdict(left).items()},
        # before its first word it has no handler yet, and nothing to take down
        "holds": left == Remains()
        and all(
            code == 0 or (code, phase) == (-signal.SIGTERM, _SILENT)
            for code, phase in zip(codes, phases, strict=True)
        ),
    }


def _gone_s(engine: Engine) -> float:
    """When its leader was ended."""
    end_s = time.monotonic() + _STALL_S + 30
    while processes.adopt(engine.leader.pid, engine.leader.started) and time.monotonic() < end_s:
        time.sleep(0.02)
    return time.monotonic()


def _engine_files(run_dir: Path) -> int:
    """What is left there that is no lock or socket of the agent's own."""
    return sum(1 for path in run_dir.glob("*") if path.is_dir())


def _row(
    made: Node,
    fault: str,
    calls: list[Call],
    faults_s: Sequence[tuple[float, float]],
    left: Remains,
) -> dict[str, Any]:
    """What the callers saw, what the ledger says, what is left. A fault has a moment, and one when it was noticed."""
    made.agent.command("spool", "flush")
    made.calls += calls
    told = account(made.agent.usage(), made.calls)
    caught = [
        (call, call.ended_s - noticed_s)
        for hit_s, noticed_s in faults_s
        for call in in_flight(calls, hit_s, noticed_s)
    ]
    answer_s = max((seconds for _, seconds in caught), default=0.0)
    untyped = sum(not call.typed for call in calls)
    clean = (told["lost"], told["double"], told["debited_wrongly"], untyped) == (0, 0, 0, 0)
    return {
        "fault": fault,
        **{f"left_{name}": value for name, value in asdict(left).items()},
        "in_flight": len(caught),
        "in_flight_said": words([call for call, _ in caught]),
        "answer_s_max": round(answer_s, 2),
        "untyped": untyped,
        **told,
        "said": words(calls),
        "holds": clean and left == Remains() and bool(caught) and answer_s <= 2.0,
    }

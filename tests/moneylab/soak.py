"""Mixed load for long, and every few seconds something breaks: `python -m moneylab.soak --seconds 1800`.

The whole agent on the fake engine: streams, documents, several answers, callers who leave, refusals. What breaks is the
agent, its engine or its plane, by kill -9 or by being frozen. In the second half the agent itself is spared, so that
its descriptors can be followed, and its memory once it has warmed up: a new agent's heap grows by some 7 MiB in its
first minutes, in ever rarer steps, while what is in use of it stays the same; that says nothing of the hours after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from fakes.ports import free_port
from harness import Agent, fake_engine

from moneylab.callers import Seen, account, document, session_of, stream

ENGINE = ("--slow-token", "0.004")
LONGEST_FREEZE_S = 2.0
WARM_UP_S = 300.0
LEAST_SAMPLES = 20
ENGINE_REST_S = 320.0  # an engine that dies more often than it counts as healthy is given up before long
SERVING_S = 30.0


@dataclass(slots=True)
class Soak:
    """A node, who calls it, and what was seen; `faults` counts what was broken."""

    home: Path
    odds: random.Random
    port: int
    agent: Agent | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    seen: list[Seen] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    unexplained: int = 0
    engine_killed_s: float = float("-inf")
    last_whole_s: float = float("-inf")

    async def start(self) -> None:
        settings = {"PARETA_ENGINE_COMMAND": fake_engine(*ENGINE), "PARETA_PLANE_BALANCE_USD": "100000"}
        self.agent = Agent(self.home, settings=settings, port=self.port)
        self.ready = await asyncio.to_thread(self.agent.ready)
        self.key = self.ready["api_key"] or self.key

    async def call(self, session: Any) -> Seen:
        """One call of any shape, no two with the same words: those at two deaths would be put in quarantine."""
        kind, count, word = self.odds.random(), self.odds.randint(1, 40), self.odds.random()
        said = {"messages": [{"role": "user", "content": f"say it {word}"}]}
        messages = {**said, "max_tokens": count}
        if kind < 0.4:
            return await stream(session, self.ready, **messages)
        if kind < 0.5:
            return await stream(session, self.ready, **said, max_tokens=40, leave_after=count)
        if kind < 0.6:
            return await stream(session, self.ready, **messages, n=2)
        if kind < 0.8:
            return await document(session, self.ready, "/chat/completions", messages)
        if kind < 0.9:
            several = {"prompt": [f"one two {word}", "three"], "max_tokens": count}
            return await document(session, self.ready, "/completions", several)
        if kind < 0.95:
            return await document(session, self.ready, "/embeddings", {"input": ["one", f"two {word}"]})
        return await document(session, self.ready, "/chat/completions", {"messages": "wrong"})

    async def caller(self, over: asyncio.Event) -> None:
        async with session_of(self.key, 20.0) as session:
            while not over.is_set():
                found = await self.call(session)
                self.seen.append(found)
                if found.whole:
                    self.last_whole_s = time.monotonic()
                if found.status != 200:
                    await asyncio.sleep(0.05)

    async def break_something(self, *, spare_agent: bool) -> None:
        ways: list[tuple[str, Callable[[], Any]]] = [
            ("engine frozen", lambda: self.hit(_is_engine, kill=False)),
            ("plane killed", lambda: self.hit(_is_plane, kill=True)),
            ("plane frozen", lambda: self.hit(_is_plane, kill=False)),
            ("agent frozen", lambda: self.hit(None, kill=False)),
        ]
        if not spare_agent:
            ways += [("agent killed", self.restart)] * 2
        if not spare_agent or time.monotonic() - self.engine_killed_s > ENGINE_REST_S:
            ways += [("engine killed", self.kill_engine)]
        name, way = self.odds.choice(ways)
        self.faults[name] += 1
        await way()

    async def kill_engine(self) -> None:
        self.engine_killed_s = time.monotonic()
        await self.hit(_is_engine, kill=True)

    async def hit(self, which: Callable[[psutil.Process], bool] | None, *, kill: bool) -> None:
        assert self.agent is not None
        family = psutil.Process(self.agent.process.pid)
        victims = [p for p in family.children(recursive=True) if which(p)] if which else [family]
        for victim in victims:
            victim.kill() if kill else victim.suspend()
        if not kill:
            await asyncio.sleep(self.odds.uniform(0.2, LONGEST_FREEZE_S))
            for victim in victims:
                victim.resume()

    async def restart(self) -> None:
        assert self.agent is not None
        await asyncio.to_thread(self.agent.kill)
        self._audit()
        await self.start()

    def sample(self) -> None:
        assert self.agent is not None
        own = psutil.Process(self.agent.process.pid)
        self.samples.append((time.time() - own.create_time(), own.memory_info().rss, own.num_fds()))

    def _left(self, what: str) -> int:
        """How many records of the spool are `open` or `undelivered`."""
        assert self.agent is not None
        said = self.agent.command("spool", "ls").stdout.splitlines()[-1]
        return int(said.split(f" {what}")[0].rsplit(" ", 1)[-1])

    def _audit(self) -> None:
        assert self.agent is not None
        told = [event for event in self.agent.events if event["event"] == "usage_drifted"]
        self.unexplained += sum(
            bool(e["unexplained_input_tokens"] or e["unexplained_output_tokens"]) for e in told
        )

    async def end(self) -> dict[str, Any]:
        """A clean stop, and everything that can be said of the money then."""
        assert self.agent is not None
        stopped = await asyncio.to_thread(self.agent.stop)
        self._audit()
        if self._left("undelivered"):  # the plane was still away: the next start has it all delivered
            await self.start()
            stopped |= await asyncio.to_thread(self.agent.stop)
        rows = self.agent.usage()
        found = account(rows, self.seen)
        verified, left_open = self.agent.command("spool", "verify"), self._left("open")
        return {
            "calls": len(self.seen),
            "seen_whole": found.seen_whole,
            "lost": found.lost,
            "double": found.double,
            "charged_wrongly": found.charged_wrongly,
            "by_outcome": dict(found.outcomes),
            "admitted": len(rows) + left_open,
            "outcomes": len(rows),
            "open": left_open,
            "undelivered": self._left("undelivered"),
            "chain_whole": verified.returncode == 0,
            "stopped_cleanly": stopped == 0,
            "drifts_unexplained": self.unexplained,
            "faults": dict(self.faults),
        }


def _is_engine(process: psutil.Process) -> bool:
    return any("fakes/engine.py" in part for part in process.cmdline())


def _is_plane(process: psutil.Process) -> bool:
    return "pareta_agent.plane" in process.cmdline()


async def soak(
    home: Path,
    seconds: float,
    *,
    every_s: float = 5.0,
    callers: int = 16,
    seed: int = 0,
    least_faults: int = 0,
) -> dict[str, Any]:
    """Figures of one soak, which is longer where the machine is too slow to break so much in its time; `sound` says
    whether the claim holds."""
    lab = Soak(home, random.Random(seed), free_port())
    await lab.start()
    begun_s = time.monotonic()
    end_s, over = begun_s + seconds, asyncio.Event()
    loads = [asyncio.create_task(lab.caller(over)) for _ in range(callers)]
    while time.monotonic() < end_s - every_s or lab.faults.total() < least_faults:
        await asyncio.sleep(every_s)
        spare = time.monotonic() > begun_s + seconds / 2
        await lab.break_something(spare_agent=spare)
        if spare:
            lab.sample()
    await asyncio.sleep(max(0.0, end_s - time.monotonic()))
    over.set()
    served = lab.last_whole_s > time.monotonic() - SERVING_S
    await asyncio.gather(*loads)
    found = await lab.end() | _slopes(lab.samples) | {"served_to_the_end": served}
    right = not (found["lost"] or found["double"] or found["charged_wrongly"] or found["open"])
    found["sound"] = (
        right
        and served
        and found["chain_whole"]
        and found["stopped_cleanly"]
        and not (found["undelivered"] or found["drifts_unexplained"])
    )
    return found


def _slopes(samples: list[tuple[float, int, int]]) -> dict[str, float | None]:
    """The most descriptors that the agent held; of its memory after the warm-up how long it was followed, its growth
    and the slope of that, which is None where it was too short to have one."""
    most = max((fds for _, _, fds in samples), default=0)
    ages_s = [age_s for age_s, _, _ in samples if age_s >= WARM_UP_S]
    if len(ages_s) < LEAST_SAMPLES:
        return {"most_fds": most, "rss_mib_per_hour": None}
    rss_mib = [rss_bytes / 2**20 for _, rss_bytes, _ in samples[-len(ages_s) :]]
    return {
        "most_fds": most,
        "rss_followed_s": round(ages_s[-1] - ages_s[0]),
        "rss_grew_mib": round(rss_mib[-1] - rss_mib[0], 2),
        "rss_mib_per_hour": round(statistics.linear_regression(ages_s, rss_mib).slope * 3600, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        running = soak(
            Path(place) / "home",
            options.seconds,
            every_s=options.every,
            callers=options.callers,
            seed=options.seed,
        )
        figures = asyncio.run(running)
    json.dump(figures, sys.stdout, indent=2)
    sys.exit(0 if figures["sound"] else 1)


if __name__ == "__main__":
    main()

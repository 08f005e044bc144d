"""How long until the first correct token: plain launch, first start from a standby that waits and from one that must
import first, warm start after a stop, restart after a kill.

One run, interleaved rounds, the agent's own engine room over real vLLM; an engine counts as there when the
canary's answer was right. `python benchmarks/cold_start.py --python ENGINE_PYTHON --weights DIR [--rounds 5]`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pareta_agent.clock import SystemClock
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.intent import Intents
from pareta_agent.engine.interpreter import inspect
from pareta_agent.engine.phases import ColdStart
from pareta_agent.engine.spec import EngineSettings, EngineSpec, FetchProgress
from pareta_agent.telemetry.events import Event, Phase
from pareta_registry.catalog import Canary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from engine_plans import PLAN as SMALL

DEADLINE_S = 300.0
CANARY = Canary(prompt="What is the capital of France?", contains="Paris", max_tokens=16)
PLAN = replace(
    SMALL, max_model_len=2048, max_num_seqs=8, max_num_batched_tokens=2048, kv_cache_bytes=512 * 1024**2
)


class Bench:
    """One fleet under measurement; `told` and `reports` are what it said."""

    def __init__(
        self, root: Path, python: Path, version: str, weights: Path, standby: int, untried: bool = False
    ) -> None:
        self.told: list[Phase | Event] = []
        self.reports: list[ColdStart] = []
        self.settings = EngineSettings(
            home_id=f"bench{os.getpid()}",
            run_dir=root / "r",
            state_dir=root / "state",
            log_dir=root / "log",
            cache_dir=root / "cache",
            python=python,
            version=version,
            standby=standby,
            standby_untried=untried,
        )
        self.fleet = Fleet(self.settings, SystemClock(), self.told.append, self.reports.append)

        async def fetch(_progress: FetchProgress) -> Path:
            return weights

        self.spec = EngineSpec("ep_bench", "org", "task", "alias", PLAN, fetch, canaries=(CANARY,))

    def said(self, name: str) -> list[Event]:
        return [event for event in self.told if isinstance(event, Event) and event.name == name]

    async def until(self, status: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while (view := self.fleet.view().endpoints["ep_bench"]).status != status:
                if view.status == "failed":
                    raise SystemExit(f"the engine failed: {view.reason}")
                await self.fleet.changed(self.fleet.revision)

    async def warm(self) -> int:
        """Waits for the standby and answers its memory in bytes."""
        ready = len(self.said("standby_ready"))
        async with asyncio.timeout(DEADLINE_S):
            while True:
                events = self.said("standby_ready")
                if len(events) > ready or self.fleet.standbys_ready:
                    return int(events[-1].fields["memory_bytes"] or 0) if events else 0
                await asyncio.sleep(0.2)

    async def deploy(self) -> float:
        begun_s = time.monotonic()
        await self.fleet.want(self.spec)
        await self.until("live")
        return time.monotonic() - begun_s

    async def kill(self) -> float:
        """kill -9 to the whole group; seconds until the next generation is live."""
        intent = Intents(self.settings.state_dir).read("ep_bench", 0)
        if intent is None or intent.pid is None:
            raise SystemExit("no engine to kill")
        begun_s = time.monotonic()
        os.killpg(intent.pid, signal.SIGKILL)
        await self.until("deploying")
        await self.until("live")
        return time.monotonic() - begun_s


async def one_round(make: Callable[[int], Bench]) -> tuple[dict[str, float], int]:
    seconds: dict[str, float] = {}
    plain = make(0)
    seconds["plain"] = await plain.deploy()
    await plain.fleet.close(5)
    ready = make(1)
    await ready.fleet.warm(PLAN)
    await ready.warm()
    seconds["from_standby"] = await ready.deploy()
    await ready.fleet.close(5)
    warm = make(1)
    seconds["first_start"] = await warm.deploy()
    memory_bytes = await warm.warm()
    await warm.fleet.unwant("ep_bench")
    seconds["wake_after_stop"] = await warm.deploy()
    await warm.warm()
    seconds["restart_after_kill"] = await warm.kill()
    await warm.fleet.close(5)
    return seconds, memory_bytes


def summary(values: list[float]) -> dict[str, float | list[float]]:
    return {
        "median_s": round(statistics.median(values), 2),
        "min_s": round(min(values), 2),
        "max_s": round(max(values), 2),
        "rounds_s": [round(value, 2) for value in values],
    }


async def measure(args: argparse.Namespace) -> dict[str, object]:
    found = await inspect(args.python)
    root = Path(tempfile.mkdtemp(prefix="pb", dir="/tmp"))
    rounds: list[dict[str, float]] = []
    memory: list[int] = []
    load_before = os.getloadavg()[0]
    try:
        for number in range(args.rounds):
            seconds, memory_bytes = await one_round(
                lambda standby: Bench(root, args.python, found.version, args.weights, standby)
            )
            rounds.append(seconds)
            memory.append(memory_bytes)
            print(f"round {number + 1}: " + "  ".join(f"{k} {v:.1f}" for k, v in seconds.items()), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    cases = {name: summary([seconds[name] for seconds in rounds]) for name in rounds[0]}
    plain = statistics.median(seconds["plain"] for seconds in rounds)
    return {
        "question": "seconds until the first correct token",
        "engine": f"vLLM {found.version} {found.platform}",
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": round(load_before, 1),
        },
        "rounds": args.rounds,
        "cases": cases,
        "ratio_to_plain": {
            name: round(statistics.median(s[name] for s in rounds) / plain, 3) for name in rounds[0]
        },
        "standby_memory_mib": round(statistics.median(memory) / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has vLLM")
    parser.add_argument("--weights", type=Path, required=True, help="a directory that vLLM serves")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "cold_start.json")
    args = parser.parse_args()
    import uvloop

    result = uvloop.run(measure(args))
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

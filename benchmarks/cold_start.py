"""How long until the first correct token: plain launch, first start from a standby that waits and from one that must
import first, wake after a stop (also with weights that only the disk has, read ahead or not), restart after a kill.

One run, interleaved rounds, the agent's own engine room over real vLLM; an engine counts as there when the
canary's answer was right. The peer is vLLM as `vllm serve` starts it, with the same flags and caches.
`python benchmarks/cold_start.py [--rounds 5] [--python ENGINE_PYTHON --weights DIR]`; five rounds take ten minutes.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import uvloop

from pareta_agent.clock import SystemClock
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.install.interpreter import inspect
from pareta_agent.engine.process.process_record import Intents
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.engine.spec import EngineSettings, EngineSpec, FetchProgress
from pareta_agent.engine.vllm import command
from pareta_agent.hardware.cores import read_cores
from pareta_agent.planning.placement.cpu_share import share
from pareta_agent.telemetry.events import Event, Phase
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Canary
from pareta_registry.load import builtin_catalog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from engine_plans import PLAN as SMALL

DEADLINE_S = 300.0
Make = Callable[[int, bool], "Bench"]
CANARY = Canary(prompt="What is the capital of France?", contains="Paris", max_tokens=16)
PLAN = replace(
    SMALL, max_model_len=2048, max_num_seqs=8, max_num_batched_tokens=2048, kv_cache_bytes=512 * 1024**2
)


class Bench:
    """One fleet under measurement; `told` and `reports` are what it said."""

    def __init__(
        self,
        root: Path,
        python: Path,
        version: str,
        weights: Path,
        standby: int,
        untried: bool = False,
        read_ahead: bool = True,
    ) -> None:
        self.told: list[Phase | Event] = []
        self.reports: list[ColdStartReport] = []
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
            read_ahead=read_ahead,
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

    async def warm(self) -> None:
        """Waits for the standby."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.fleet.standbys.ready:
                await asyncio.sleep(0.05)

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


def forget(weights: Path) -> None:
    """Drops the weights from memory, as after a reboot."""
    for path in weights.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def from_the_disk(make: Make, weights: Path, read_ahead: bool) -> float:
    """From a standby that waits, with weights that are not in memory."""
    cold = make(1, read_ahead)
    await cold.fleet.standbys.warm(cold.fleet.settings, PLAN)
    await cold.warm()
    forget(weights)
    seconds = await cold.deploy()
    await cold.fleet.close(5)
    return seconds


async def one_round(make: Make, weights: Path) -> tuple[dict[str, float], Event]:
    """Seconds by case, and what the last standby said when it was warm."""
    seconds: dict[str, float] = {}
    plain = make(0, True)
    seconds["plain"] = await plain.deploy()
    await plain.fleet.close(5)
    ready = make(1, True)
    await ready.fleet.standbys.warm(ready.fleet.settings, PLAN)
    await ready.warm()
    seconds["from_standby"] = await ready.deploy()
    await ready.fleet.close(5)
    warm = make(1, True)
    seconds["first_start"] = await warm.deploy()
    await warm.warm()
    await warm.fleet.remove("ep_bench")
    seconds["wake_after_stop"] = await warm.deploy()
    await warm.warm()
    seconds["restart_after_kill"] = await warm.kill()
    await warm.fleet.close(5)
    for name, read_ahead in (
        ("from_standby_and_disk", True),
        ("from_standby_and_disk_not_read_ahead", False),
    ):
        seconds[name] = await from_the_disk(make, weights, read_ahead)
    return seconds, warm.said("standby_ready")[-1]


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
    standbys: list[Event] = []
    loads = [os.getloadavg()[0]]
    begun_s = time.monotonic()
    try:
        weights = root / "weights"
        shutil.copytree(args.weights or await demo(root), weights)
        os.sync()

        def make(standby: int, read_ahead: bool) -> Bench:
            return Bench(root, args.python, found.version, weights, standby, read_ahead=read_ahead)

        for number in range(args.rounds):
            seconds, standby = await one_round(make, weights)
            rounds.append(seconds)
            standbys.append(standby)
            loads.append(os.getloadavg()[0])
            print(f"round {number + 1}: " + "  ".join(f"{k} {v:.1f}" for k, v in seconds.items()), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    plain = statistics.median(seconds["plain"] for seconds in rounds)
    return {
        "question": "seconds until the first correct token",
        "engine": f"vLLM {found.version} {found.platform}",
        "peer": peer(found.version),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_before_and_after_each_round": [round(load, 1) for load in loads],
        },
        "rounds": args.rounds,
        "took_s": round(time.monotonic() - begun_s),
        "cases": {name: summary([seconds[name] for seconds in rounds]) for name in rounds[0]},
        "ratio_to_plain": {
            name: round(statistics.median(s[name] for s in rounds) / plain, 3) for name in rounds[0]
        },
        "standby": {
            "pss_mib": round(statistics.median(int(s.fields["memory_bytes"] or 0) for s in standbys) / 2**20),
            "import_s": summary([float(s.fields["preload_s"] or 0) for s in standbys]),
        },
        "inherent": "first_start has one process import vLLM once; a plain launch does so in each of its processes",
    }


def peer(version: str) -> dict[str, object]:
    """How the plain launch was started, without this run's paths."""
    told = command.Launch(
        "ep_bench",
        Path("WEIGHTS"),
        Path("SOCKET"),
        Path("TMP"),
        Path("CACHE"),
        "MARKER",
        threads=share(read_cores(), 1, 0).threads or 1,
    )
    env = command.environment(PLAN, told, version, {})
    return {
        "program": f"python -m {command.MODULE}, which is what `vllm serve` runs",
        "flags": " ".join(command.arguments(PLAN, told, version)),
        "environment": {name: env[name] for name in sorted(env) if name.startswith(("VLLM_", "OMP_"))},
        "caches": "vLLM's own, kept between all starts of this run",
    }


def installed() -> Path:
    """The pinned engine's interpreter, made where it is missing."""
    said = subprocess.run(
        [sys.executable, "-m", "pareta_agent", "engine", "install", "--cpu", "--json"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return Path(json.loads(said.splitlines()[-1])["python"])


async def demo(root: Path) -> Path:
    cache = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
    store = WeightsStore(WeightsSettings(root / "store", cache / "artifacts"))
    return await store.fetch(builtin_catalog().models[0].variants[0], lambda _: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, help="an interpreter that has vLLM; default: the pinned one")
    parser.add_argument(
        "--weights", type=Path, help="a directory that vLLM serves; default: the demo's model"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "cold_start.json")
    args = parser.parse_args()
    args.python = args.python or installed()
    result = uvloop.run(measure(args))
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

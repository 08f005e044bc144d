"""What has to be true on a real GPU, in steps of minutes each; the same script tries itself on a CPU.

Inventory, plan against reality by shapes without weights, cold starts plain and from a standby, kill -9 with the
memory back, sleep and wake. A step writes DIR/STEP.json; every start of a real model has passed its canary.

    python benchmarks/gpu/run.py --device cuda|cpu --python ENGINE_PYTHON --weights DIR [--step NAME] [--out DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pareta_agent.engine.interpreter import inspect
from pareta_agent.engine.process import marked
from pareta_agent.hardware.inventory import Inventory, to_json
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.planning.choose import plan
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import PlanRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import shapes
from cold_start import PLAN as SMALL
from cold_start import Bench

ROOT = Path(__file__).resolve().parents[2]
STEP_S = 480.0
SLACK_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Ground:
    """What every step stands on."""

    device: str
    python: Path
    version: str
    weights: Path
    root: Path
    inventory: Inventory

    @property
    def small(self) -> Plan:
        if self.device == "cpu":
            return SMALL
        gpu = self.inventory.gpus[0].uuid
        return replace(
            SMALL,
            platform="cuda",
            gpus=((gpu,),),
            gpu_memory_utilization=0.5,
            kv_cache_bytes=None,
            enforce_eager=False,
        )

    def bench(self, standby: int = 0, wanted: Plan | None = None, weights: Path | None = None) -> Bench:
        made = Bench(self.root, self.python, self.version, weights or self.weights, standby)
        canaries = made.spec.canaries if weights is None else ()
        made.spec = replace(made.spec, plan=wanted or self.small, canaries=canaries)
        return made


async def inventory(ground: Ground) -> dict[str, Any]:
    return dict(json.loads(to_json(ground.inventory)))


async def plan_vs_reality(ground: Ground) -> dict[str, Any]:
    """Each shape planned, started without weights, and compared term by term."""
    rows = []
    for shape in shapes.CUDA if ground.device == "cuda" else shapes.CPU:
        folder = ground.root / shape.name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(shape.config))
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(ground.weights / name, folder / name)
        request = PlanRequest(replicas=1, engine_version=ground.version)
        report = plan(shape.architecture, [shape.variant], read_inventory(), request)
        if report.best is None:
            rows.append({"shape": shape.name, "rejected": [asdict(one) for one in report.rejections]})
            continue
        rows.append(await _compare(ground, shape, report.best, folder))
    return {"rows": rows}


async def _compare(ground: Ground, shape: shapes.Shape, best: Plan, folder: Path) -> dict[str, Any]:
    bench = ground.bench(wanted=replace(best, flags=(*best.flags, *shape.flags)), weights=folder)
    row: dict[str, Any] = {"shape": shape.name, "max_model_len": best.max_model_len}
    try:
        await bench.deploy()
    except SystemExit as failed:
        return {**row, "failed": str(failed)}
    finally:
        await bench.fleet.close(5)
    said = bench.reports[-1].measures
    terms = {
        "weights_gib": (round(best.footprint.weights_bytes / 2**30, 3), said.weights_gib),
        "kv_tokens": (best.kv_tokens, said.kv_tokens),
    }
    for term, (predicted, logged) in terms.items():
        error = None if not logged else round(predicted / logged - 1, 4)
        row[term] = {"predicted": predicted, "logged": logged, "error": error}
    return row


async def cold_start(ground: Ground) -> dict[str, Any]:
    """Seconds until the first right answer, with the phases, plain and from a standby that waits."""
    found = {}
    for name, standby in (("plain", 0), ("from_standby", 1)):
        bench = ground.bench(standby)
        try:
            if standby:
                await bench.fleet.warm(ground.small)
                await bench.warm()
            seconds = await bench.deploy()
        finally:
            await bench.fleet.close(5)
        report = bench.reports[-1]
        phases = {phase: round(spent, 2) for phase, spent in report.phases.items()}
        found[name] = {"live_s": round(seconds, 2), "standby": report.standby, "phases_s": phases}
    return found


async def kill_sleep_wake(ground: Ground) -> dict[str, Any]:
    """kill -9 of a live engine, its next generation, then sleep and wake; what is left after each end."""
    before = _free(ground)
    bench = ground.bench()
    try:
        await bench.deploy()
        found: dict[str, Any] = {"live": {"taken_bytes": _taken(ground, before)}}
        found["kill"] = {"live_again_s": round(await bench.kill(), 2)}
        await bench.fleet.sleep("ep_bench")
        found["sleep"] = await _given_back(ground, bench, before)
        begun_s = time.monotonic()
        bench.fleet.wake("ep_bench")
        await bench.until("live")
        found["wake"] = {"live_s": round(time.monotonic() - begun_s, 2)}
    finally:
        await bench.fleet.close(5)
    return found | {"end": await _given_back(ground, bench, before)}


def _free(ground: Ground) -> int:
    """Free bytes of the GPU that the steps use; of the host without one."""
    now = read_inventory()
    return (now.gpus[0].memory_free_bytes if ground.device == "cuda" else now.memory_available_bytes) or 0


def _taken(ground: Ground, before: int) -> int:
    return before - _free(ground)


async def _given_back(ground: Ground, bench: Bench, before: int, deadline_s: float = 30.0) -> dict[str, Any]:
    """Polls until memory is back and no process carries our marker; what is still held at the deadline."""
    begun_s = time.monotonic()
    while True:
        held, processes = _taken(ground, before), len(marked(bench.settings.home_id))
        back = processes == 0 and (ground.device == "cpu" or held <= SLACK_BYTES)
        if back or time.monotonic() - begun_s > deadline_s:
            seconds = round(time.monotonic() - begun_s, 2)
            return {"back": back, "seconds": seconds, "held_bytes": held, "processes": processes}
        await asyncio.sleep(0.2)


STEPS: dict[str, Callable[[Ground], Coroutine[Any, Any, dict[str, Any]]]] = {
    "inventory": inventory,
    "plan_vs_reality": plan_vs_reality,
    "cold_start": cold_start,
    "kill_sleep_wake": kill_sleep_wake,
}


def circumstances(ground: Ground) -> dict[str, Any]:
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    names = [gpu.name for gpu in ground.inventory.gpus] if ground.device == "cuda" else ["cpu"]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": names,
        "driver": ground.inventory.driver,
        "cuda_driver": ground.inventory.cuda_driver,
        "vllm": ground.version,
        "commit": commit or None,
    }


async def run(told: argparse.Namespace) -> None:
    found, seen = await inspect(told.python), read_inventory()
    if told.device == "cuda" and not seen.gpus:
        raise SystemExit(f"no GPU here: {seen.nvml_error}; try --device cpu")
    told.out.mkdir(parents=True, exist_ok=True)
    for name in STEPS if told.step == "all" else (told.step,):
        root = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        ground = Ground(told.device, told.python, found.version, told.weights, root, seen)
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(STEP_S):
                result = await STEPS[name](ground)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        whole = {**circumstances(ground), "step_s": round(time.monotonic() - begun_s, 1), name: result}
        (told.out / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
        print(f"{name}: {whole['step_s']} s", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has vLLM")
    parser.add_argument("--weights", type=Path, required=True, help="the small real model's directory")
    parser.add_argument("--step", choices=("all", *STEPS), default="all")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    told.out = told.out or ROOT / "benchmarks" / "results" / "gpu" / told.device
    import uvloop

    uvloop.run(run(told))


if __name__ == "__main__":
    main()

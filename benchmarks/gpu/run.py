"""What has to be true on a real GPU, in steps of at most eight minutes; the same script tries itself on a CPU.

Inventory, plan against reality shape by shape, canary, cold starts plain and from a standby, kill -9 with the memory
back, sleep and wake, the agent's overhead, a curve to saturation. A step writes DIR/STEP.json and DIR/log/STEP.log.

    python benchmarks/gpu/run.py --device cuda|cpu --python ENGINE_PYTHON --weights DIR [--step NAME…] [--out DIR]

Where a command may take ten minutes only, say `--missing --within-s 540` and repeat it until it ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import life
import load
import reality
import shapes
from ground import ROOT, Ground

from pareta_agent import processes
from pareta_agent.engine.install.interpreter import inspect
from pareta_agent.hardware.inventory import to_json
from pareta_agent.hardware.nvml import read_inventory

STEP_S = 480.0
LEAST_S = 150.0
"""With less left no step is begun: it would hardly end."""
Step = Callable[[Ground], Coroutine[Any, Any, dict[str, Any]]]


async def inventory(ground: Ground) -> dict[str, Any]:
    return dict(json.loads(to_json(ground.inventory)))


def steps(device: str) -> Mapping[str, Step]:
    """In the order in which they are worth most, should time run out."""
    rows = shapes.CUDA if device == "cuda" else shapes.CPU
    first, *others = [
        (f"plan_{shape.name}", functools.partial(reality.compare, shape=shape)) for shape in rows
    ]
    return {
        "inventory": inventory,
        "canary": life.canary,
        first[0]: first[1],
        "kill_sleep_wake": life.kill_sleep_wake,
        "sleep_resume": life.sleep_resume,
        "cold_start": life.cold_start,
        "overhead": load.overhead,
        "curve": load.curve,
        **dict(others),
        "overhead_workers": load.overhead_workers,
    }


async def run_step(name: str, step: Step, ground: Ground, out: Path, limit_s: float) -> bool:
    """Runs it within its time and writes what it found, or why it found nothing; whether it ended well."""
    begun_s = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            told = {name: await step(ground)}
    except (Exception, SystemExit) as error:  # the other steps are still worth their time
        told = {name: {}, "error": f"{type(error).__name__}: {error}"[:2000]}
    whole = {**ground.circumstances(), "step_s": round(time.monotonic() - begun_s, 1), **told}
    (out / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    for made in ground.root.glob("*.svg"):
        shutil.copy(made, out / made.name)
    with (out / "log" / f"{name}.log").open("wb") as kept:
        for log in sorted(ground.root.rglob("*.log*")):
            kept.write(f"=== {log.relative_to(ground.root)}\n".encode() + log.read_bytes())
    print(f"{name}: {whole['step_s']} s {whole.get('error', '')}", file=sys.stderr, flush=True)
    return "error" not in whole


def wanted(told: argparse.Namespace, known: Mapping[str, Step]) -> list[str]:
    """The steps to run: those asked for, less those that have their result where only missing ones are."""
    if strange := [name for name in told.step if name not in known]:
        raise SystemExit(f"no step {', '.join(strange)}; there are: {', '.join(known)}")
    asked = [name for name in known if name in (told.step or known)]
    return [name for name in asked if not (told.missing and done(told.out / f"{name}.json"))]


def done(result: Path) -> bool:
    return result.exists() and "error" not in json.loads(result.read_text())


async def run(told: argparse.Namespace) -> bool:
    """Runs what is wanted; whether all of it ended well. Terminated, it ends the engines first."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    end_s = time.monotonic() + told.within_s
    found, seen = await inspect(told.python), read_inventory()
    if told.device == "cuda" and not seen.gpus:
        raise SystemExit(f"no GPU here: {seen.nvml_error}; try --device cpu")
    (told.out / "log").mkdir(parents=True, exist_ok=True)
    known, well = steps(told.device), True
    for name in wanted(told, known):
        limit_s = min(STEP_S, end_s - time.monotonic())
        if limit_s < LEAST_S:
            print(f"{name}: not begun, time is up", file=sys.stderr, flush=True)
            well = False
            continue
        root = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        try:
            ground = Ground(told.device, told.python, found.version, told.weights, root, seen)
            well &= await run_step(name, known[name], ground, told.out, limit_s)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has vLLM")
    parser.add_argument("--weights", type=Path, required=True, help="the small real model's directory")
    parser.add_argument("--step", nargs="+", default=[], help="names of steps; all of them without it")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    parser.add_argument("--missing", action="store_true", help="only steps that have no result in --out yet")
    parser.add_argument("--within-s", type=float, default=24 * 3600.0, help="seconds for all steps together")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    if told.list:
        print("\n".join(steps(told.device)))
        return
    told.out = told.out or ROOT / "benchmarks" / "results" / "gpu" / told.device
    told.python = told.python.absolute()  # an engine's place is its own; a link makes a virtual environment
    told.weights = told.weights.resolve()
    processes.allow_open_files()
    import uvloop

    sys.exit(0 if uvloop.run(run(told)) else 1)


if __name__ == "__main__":
    main()

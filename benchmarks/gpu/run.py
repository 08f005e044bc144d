"""What has to be true on a real GPU, in steps of at most eight minutes; the same script tries itself on a CPU.

Inventory, plan against reality shape by shape, canary, cold starts plain and from a standby, kill -9 with the memory
back, sleep and wake, the agent's overhead, a curve to saturation. A step writes DIR/STEP.json.

    python benchmarks/gpu/run.py --device cuda|cpu --python ENGINE_PYTHON --weights DIR [--step NAME] [--out DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import shutil
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

from pareta_agent.engine.interpreter import inspect
from pareta_agent.hardware.inventory import to_json
from pareta_agent.hardware.nvml import read_inventory

STEP_S = 480.0
Step = Callable[[Ground], Coroutine[Any, Any, dict[str, Any]]]


async def inventory(ground: Ground) -> dict[str, Any]:
    return dict(json.loads(to_json(ground.inventory)))


def steps(device: str) -> Mapping[str, Step]:
    """In the order in which they are worth most, should time run out."""
    rows = shapes.CUDA if device == "cuda" else shapes.CPU
    realities = {f"plan_{shape.name}": functools.partial(reality.compare, shape=shape) for shape in rows}
    return {
        "inventory": inventory,
        "canary": life.canary,
        **realities,
        "kill_sleep_wake": life.kill_sleep_wake,
        "cold_start": life.cold_start,
        "overhead": load.overhead,
        "curve": load.curve,
    }


async def run_step(name: str, step: Step, ground: Ground, out: Path) -> bool:
    """Runs it within its time and writes what it found, or why it found nothing; whether it ended well."""
    begun_s = time.monotonic()
    try:
        async with asyncio.timeout(STEP_S):
            told = {name: await step(ground)}
    except (Exception, SystemExit) as error:  # the other steps are still worth their time
        told = {name: {}, "error": f"{type(error).__name__}: {error}"[:2000]}
    whole = {**ground.circumstances(), "step_s": round(time.monotonic() - begun_s, 1), **told}
    (out / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    for made in ground.root.glob("*.svg"):
        shutil.copy(made, out / made.name)
    print(f"{name}: {whole['step_s']} s {whole.get('error', '')}", file=sys.stderr, flush=True)
    return "error" not in whole


async def run(told: argparse.Namespace) -> bool:
    found, seen = await inspect(told.python), read_inventory()
    if told.device == "cuda" and not seen.gpus:
        raise SystemExit(f"no GPU here: {seen.nvml_error}; try --device cpu")
    told.out.mkdir(parents=True, exist_ok=True)
    known = steps(told.device)
    if told.step != "all" and told.step not in known:
        raise SystemExit(f"no step {told.step!r}; there are: all, {', '.join(known)}")
    well = True
    for name in known if told.step == "all" else (told.step,):
        root = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        try:
            ground = Ground(told.device, told.python, found.version, told.weights, root, seen)
            well &= await run_step(name, known[name], ground, told.out)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has vLLM")
    parser.add_argument("--weights", type=Path, required=True, help="the small real model's directory")
    parser.add_argument("--step", default="all", help="one step's name; all of them without it")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    if told.list:
        print("\n".join(steps(told.device)))
        return
    told.out = told.out or ROOT / "benchmarks" / "results" / "gpu" / told.device
    import uvloop

    sys.exit(0 if uvloop.run(run(told)) else 1)


if __name__ == "__main__":
    main()

"""What a vLLM for CUDA makes of each shape, asked before there is a GPU: under stubs of the driver and of NVML that say
H100, its compiled parts load, and it parses our command line, configures itself and builds the model without weights.

    python benchmarks/gpu/rehearse.py --python ENGINE_PYTHON --weights DIR [--out benchmarks/results/gpu/rehearsal.json]

Needs a C compiler and `nm`; some minutes, most of which the engine imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import shapes
from fakes.driver import COMPILER, Driver
from ground import ROOT, Ground
from planner_values import gpus, node

from pareta_agent.engine.vllm import command
from pareta_agent.planning.choose import plan
from pareta_agent.planning.request import PlanRequest

WHERE = "import importlib.util as u; print(u.find_spec('vllm').submodule_search_locations[0])"
VERSION = "import importlib.metadata as m; print(m.version('vllm'))"
NODE = node(gpus(1))


def asked(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def stub_driver(folder: Path, package: Path) -> None:
    """A libcuda.so.1 that has whatever the package's compiled parts want of it, and does nothing."""
    wanted = set()
    for part in package.rglob("*.so"):
        table = subprocess.run(["nm", "-D", "--undefined-only", part], capture_output=True, text=True).stdout
        names = (line.split()[-1] for line in table.splitlines())
        wanted |= {name for name in names if name.startswith("cu") and name[2:3].isupper()}
    source = folder / "driver.c"
    source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(wanted)))
    library = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([str(COMPILER), *library, str(source)], check=True)


def command_lines(ground: Ground) -> dict[str, list[str]]:
    """Of each shape the command line that the agent would start this engine with."""
    lines = {}
    for shape in shapes.CUDA:
        request = PlanRequest(replicas=1, engine_version=ground.version)
        best = plan(shape.architecture, [shape.variant], NODE, request).best
        assert best is not None, shape.name
        folder = ground.shapes_folder(shape.name, shape.config)
        place = command.Launch("ep", folder, ground.root / "s", ground.root, ground.root, "m", ("GPU-0",))
        wanted = replace(best, flags=(*best.flags, *shape.flags))
        lines[shape.name] = command.arguments(wanted, place, ground.version)
    return lines


def rehearse(told: argparse.Namespace, root: Path) -> dict[str, Any]:
    version = asked(told.python, VERSION).partition("+")[0]
    stub_driver(root, Path(asked(told.python, WHERE)))
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    settings = {**Driver(root, gpus=1).settings, **quiet, "VLLM_CACHE_ROOT": str(root / "cache")}
    lines = command_lines(Ground("cuda", told.python, version, told.weights, root, NODE))
    begun_s = time.monotonic()
    done = subprocess.run(
        [told.python, str(Path(__file__).with_name("rehearse_engine.py"))],
        input=json.dumps(lines),
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    known = set(json.loads((ROOT / "tests" / "data" / "vllm_flags.json").read_text())[version]["flags"])
    differ = sorted(known ^ set(found.pop("options")))
    return {
        "took_s": round(time.monotonic() - begun_s),
        "options_that_differ_from_the_table": differ,
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has vLLM for CUDA")
    parser.add_argument("--weights", type=Path, required=True, help="a model's directory, for its tokenizer")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu" / "rehearsal.json"
    )
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pg") as root:
        found = rehearse(told, Path(root))
    told.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

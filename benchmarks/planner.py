"""How long does one plan take? Eight GPUs and six variants, for models of different kinds; the limit is 100 ms.

`python benchmarks/planner.py [--rounds N] [--write FILE]` prints one JSON object, milliseconds of processor
time; exit 1 over the limit.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from pareta_agent.hardware.inventory import GIB, Inventory
from pareta_agent.planning.choose import plan
from pareta_agent.planning.nearest import plan_or_nearest
from pareta_agent.planning.request import PlanRequest
from pareta_registry.catalog import Architecture, Variant

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from planner_values import DEEPSEEK_V3, LLAMA_70B, gpus, node

LIMIT_MS = 100.0
QUANTS = {"none": 16, "fp8-w8a8": 8, "fp8-block128": 8, "int8-w8a8": 8, "awq-int4-g128": 4, "nvfp4": 4}
HYBRID_27B = LLAMA_70B.model_copy(
    update={
        "params_b": 27.8, "layers": 64, "heads": 24, "kv_heads": 4, "head_dim": 256, "hidden": 5120,
        "intermediate": 17408, "full_layers": 16, "linear_layers": 48,
    }
)  # fmt: skip


def variants(arch: Architecture) -> list[Variant]:
    return [
        Variant(
            name=name,
            quant=name,
            artifact="sha256:" + "0" * 64,
            source="file:///nowhere",
            weights_bytes=int(arch.params_b * 1e9 * bits / 8),
        )
        for name, bits in QUANTS.items()
    ]


def eight(name: str, capability: tuple[int, int], gib: float, linked: bool = True) -> Inventory:
    """Eight GPUs, each with a GiB less free than the one before: no two are the same."""
    alike = gpus(8, gib, name=name, compute_capability=capability, linked=linked)
    return node(
        tuple(replace(gpu, memory_free_bytes=int(gib * GIB) - index * GIB) for index, gpu in enumerate(alike))
    )


QUESTIONS = {
    "dense 70B on 8 H100": (LLAMA_70B, eight("NVIDIA H100 80GB HBM3", (9, 0), 79.1)),
    "dense 70B on 8 L40S": (LLAMA_70B, eight("NVIDIA L40S", (8, 9), 44.4, linked=False)),
    "MLA 671B on 8 B200": (DEEPSEEK_V3, eight("NVIDIA B200", (10, 0), 178.3)),
    "MLA 671B on 8 L4 (refused)": (DEEPSEEK_V3, eight("NVIDIA L4", (8, 9), 22.0, linked=False)),
    "hybrid 27B on 8 RTX 5090": (HYBRID_27B, eight("NVIDIA GeForce RTX 5090", (12, 0), 31.4, linked=False)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    result = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "limit_ms": LIMIT_MS,
        "plans": {},
    }
    for name, (arch, inventory) in QUESTIONS.items():
        choices = variants(arch)
        times_ms = []
        for _ in range(asked.rounds):
            begun_s = time.process_time()
            report = plan(arch, choices, inventory, PlanRequest())
            times_ms.append((time.process_time() - begun_s) * 1000)
        result["plans"][name] = {
            "median_ms": round(statistics.median(times_ms), 1),
            "worst_ms": round(max(times_ms), 1),
            "candidates": len(report.candidates),
            "rejections": len(report.rejections),
        }
    refused = QUESTIONS["MLA 671B on 8 L4 (refused)"]
    begun_s = time.process_time()
    plan_or_nearest(refused[0], variants(refused[0]), refused[1], PlanRequest())
    result["nearest_ms"] = round((time.process_time() - begun_s) * 1000, 1)
    text = json.dumps(result, indent=2)
    print(text)
    if asked.write:
        asked.write.write_text(text + "\n")
    sys.exit(any(one["median_ms"] > LIMIT_MS for one in result["plans"].values()))


if __name__ == "__main__":
    main()

"""Reads the golden plans' file into the planner's own values, and scores its answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pareta_agent.hardware.inventory import GIB, Gpu, Health, Inventory, Mig
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import PlanRequest
from pareta_registry.catalog import Architecture, Variant

GOLDEN_LINE = pytest.StashKey[str]()
"""Under which the golden test leaves its score, for the last line of the run."""

_ZERO_DIGEST = "sha256:" + "0" * 64
_SHAPE = ("layers", "heads", "kv_heads", "head_dim", "hidden", "intermediate", "vocab")
_HEALTH = {
    "row_remap_failure": Health(remapped_rows_failure=True),
    "row_remap_pending": Health(remapped_rows_pending=True),
    "retired_pages_pending": Health(retired_pages_pending=True),
    "lost": Health(lost=True),
}
_PUBLISHED: dict[str, dict[str, Any]] = {
    # config.json of a model whose case says "take from config.json"
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B": {
        "layers": 88, "heads": 32, "kv_heads": 2, "head_dim": 128, "hidden": 4096, "intermediate": 2688,
        "vocab": 131072, "full_layers": 8, "linear_layers": 40,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    feasible: bool
    full: bool
    wrong: str


def load_cases(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["cases"])


def architecture(model: dict[str, Any]) -> Architecture:
    """The case's model; keys that only explain are left out, absent shapes come from its published config."""
    facts = {name: model[name] for name in Architecture.model_fields if model.get(name) is not None}
    if any(model.get(name) is None for name in _SHAPE):
        facts |= _PUBLISHED.get(model["name"]) or _typical(model["params_b"])
    return Architecture(**facts)


def variants(case: dict[str, Any]) -> list[Variant]:
    return [
        Variant(
            name=one["name"],
            quant=one["quant"],
            artifact=_ZERO_DIGEST,
            source="file:///nowhere",
            weights_bytes=int(one["weights_gib"] * GIB),
        )
        for one in case["variants"]
    ]


def inventory(hardware: dict[str, Any]) -> Inventory:
    """The case's node. A unified-memory part reports no memory of its own, as NVML does there."""
    unified = bool(hardware.get("unified_memory"))
    health = hardware.get("health", {})
    gpus = []
    for index, gpu in enumerate(hardware["gpus"]):
        word = health.get(str(index))
        gpus.append(
            Gpu(
                uuid=f"GPU-{index}",
                name=gpu["name"],
                compute_capability=tuple(int(part) for part in gpu["cc"].split(".")),
                memory_total_bytes=None if unified else _bytes(gpu["mem_gib"]),
                memory_free_bytes=None if unified else _bytes(gpu["free_gib"]),
                nvlink_peers=tuple(f"GPU-{peer}" for peer in gpu["nvlink_peers"]),
                mig=Mig(parent=f"PARENT-{index}", profile=str(gpu["mig"])) if gpu.get("mig") else None,
                health=_HEALTH.get(word, Health(recovery_action=word))
                if word not in (None, "ok")
                else Health(),
            )
        )
    available = hardware.get("mem_available_gib")
    return Inventory(
        gpus=tuple(gpus),
        cpu_cores=32,
        memory_bytes=_bytes(hardware["gpus"][0]["mem_gib"]) if unified else None,
        memory_available_bytes=_bytes(available),
        driver=hardware.get("driver"),
        cuda_driver=hardware.get("cuda_driver"),
        unified_memory=unified,
    )


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * GIB)


def request(case: dict[str, Any]) -> PlanRequest:
    return PlanRequest(objective=case["objective"])


def score(case: dict[str, Any], plan: Plan | None) -> Score:
    """Feasibility, and in full: variant, layout and context as expected or as one of the acceptable."""
    expected = case["expected"]
    feasible = (plan is not None) == expected["feasible"]
    if plan is None or not expected["feasible"]:
        return Score(feasible, feasible, "" if feasible else f"feasible: expected {expected['feasible']}")
    wrong = []
    if plan.variant not in {expected["variant"], *expected.get("variant_acceptable", [])}:
        wrong.append(f"variant {plan.variant}, expected {expected['variant']}")
    layouts = [
        {key: expected[key] for key in ("tp", "pp", "dp", "expert_parallel", "replicas")},
        *expected.get("layout_acceptable", []),
    ]
    if not any(_same_layout(layout, plan) for layout in layouts):
        wrong.append(f"layout {_layout(plan)}, expected {layouts}")
    if plan.max_model_len < expected["max_model_len_min"]:
        wrong.append(f"context {plan.max_model_len}, expected at least {expected['max_model_len_min']}")
    return Score(feasible, not wrong, "; ".join(wrong))


def _same_layout(layout: dict[str, Any], plan: Plan) -> bool:
    """With dp 1, expert parallelism moves no bytes and no GPU: it is compared only where ranks are apart."""
    expert = layout.get("expert_parallel", layout.get("ep", False))
    return (
        layout.get("variant", plan.variant) == plan.variant
        and layout["tp"] == plan.tp
        and layout.get("pp", 1) == plan.pp
        and layout.get("dp", 1) == plan.dp
        and layout["replicas"] == plan.replicas
        and (plan.dp == 1 or expert == plan.expert_parallel)
    )


def _layout(plan: Plan) -> str:
    return f"tp{plan.tp} pp{plan.pp} dp{plan.dp} ep{plan.expert_parallel} ×{plan.replicas}"


def _typical(params_b: float) -> dict[str, Any]:
    """A dense model of this size, where a case gives no shape at all: width grows with the cube root."""
    hidden = max(1024, round(4096 * (params_b / 8) ** (1 / 3) / 1024) * 1024)
    layers = max(8, round(params_b * 1e9 / (12 * hidden**2)))
    return {
        "layers": layers, "heads": hidden // 128, "kv_heads": 8, "head_dim": 128, "hidden": hidden,
        "intermediate": 7 * hidden // 2, "vocab": 131072,
    }  # fmt: skip

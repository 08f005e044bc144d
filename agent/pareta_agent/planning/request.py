"""What is asked of the planner: an objective, limits, and what the catalog sets for the engine. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent.planning.plan import Objective
from pareta_registry.catalog import Adapter
from pareta_registry.resolve import Resolution

TPOT_TARGET_S: Final[Mapping[Objective, float]] = {"balanced": 0.050, "throughput": 0.100, "latency": 0.007}
"""Seconds a token that a layout should hold; a layout that cannot is still ranked, by how near it comes."""


_AT_ONCE: Final = 4
_KEPT: Final = 64
_RANKS: Final = (16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class AdapterSlots:
    """What an engine keeps room for: `at_once` LoRA adapters of up to `rank` in one batch, `kept` in host memory.

    vLLM takes certain ranks only (config/lora.py, MaxLoRARanks); adapters beyond `at_once` take turns, those beyond
    `kept` are read from disk when they are called.
    """

    rank: int
    at_once: int
    kept: int

    @property
    def flags(self) -> tuple[str, ...]:
        sizes = {"--max-lora-rank": self.rank, "--max-loras": self.at_once, "--max-cpu-loras": self.kept}
        return ("--enable-lora", *(word for flag, size in sizes.items() for word in (flag, str(size))))


def slots_for(adapters: Sequence[Adapter]) -> AdapterSlots | None:
    """Room for any of a model's adapters; None without any. It follows from the largest rank alone, so that an adapter
    that the catalog adds or drops mostly finds the engine that runs."""
    if not adapters:
        return None
    largest = max(adapter.rank for adapter in adapters)
    return AdapterSlots(next(rank for rank in _RANKS if rank >= largest), _AT_ONCE, _KEPT)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """`max_model_len` None: the longest that fits, up to the model's. `replicas` None: as many as fit.

    `context` is the catalog's own limit on the model's context; `settings` its engine settings.
    `gpu_memory_utilization`, `kv_cache_bytes` (CPU) and `enforce_eager` are the node owner's word.
    `cuda_build` is the CUDA that the engine was built for, 13000 for 13.0, None when unknown;
    `engine_version` picks the support snapshot. `adapters` is room for LoRA adapters beside the weights.
    """

    objective: Objective = "balanced"
    max_model_len: int | None = None
    replicas: int | None = None
    context: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    gpu_memory_utilization: float | None = None
    kv_cache_bytes: int | None = None
    enforce_eager: bool | None = None
    tpot_target_s: float | None = None
    cuda_build: int | None = 13000
    engine_version: str | None = None
    adapters: AdapterSlots | None = None

    @property
    def target_s(self) -> float:
        return self.tpot_target_s or TPOT_TARGET_S[self.objective]


def for_resolution(
    resolution: Resolution, *, objective: Objective = "balanced", replicas: int | None = None
) -> PlanRequest:
    """The request for what the registry resolved. The catalog's length is a limit, not a demand: a node whose
    memory ends earlier serves a shorter context.
    """
    return PlanRequest(
        objective=objective,
        replicas=replicas,
        context=resolution.max_model_len,
        settings=resolution.engine,
        adapters=slots_for(resolution.model.adapters),
    )

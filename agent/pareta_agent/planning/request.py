"""What is asked of the planner: an objective, limits, and what the catalog sets for the engine. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent.planning.plan import Objective
from pareta_registry.resolve import Resolution

TPOT_TARGET_S: Final[Mapping[Objective, float]] = {"balanced": 0.050, "throughput": 0.100, "latency": 0.007}
"""Seconds a token that a layout should hold; a layout that cannot is still ranked, by how near it comes."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """`max_model_len` None: the longest that fits, up to the model's. `replicas` None: as many as fit.

    `context` is the catalog's own limit on the model's context; `settings` its engine settings.
    `gpu_memory_utilization`, `kv_cache_bytes` (CPU) and `enforce_eager` are the node owner's word.
    `cuda_build` is the CUDA that the engine was built for, 13000 for 13.0, None when unknown;
    `engine_version` picks the support snapshot.
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
        objective=objective, replicas=replicas, context=resolution.max_model_len, settings=resolution.engine
    )

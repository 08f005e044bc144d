"""Plan request: the planner's inputs for one endpoint: objective, limits, and the catalog's engine settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent.planning.plan import Objective
from pareta_registry.catalog import Adapter
from pareta_registry.resolve import Resolution

TPOT_TARGET_S: Final[Mapping[Objective, float]] = {"balanced": 0.050, "throughput": 0.100, "latency": 0.007}
"""Target seconds per token by objective. A slower layout has a lower score and is still ranked."""


_AT_ONCE: Final = 4
_KEPT: Final = 64
_RANKS: Final = (16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class AdapterSlots:
    """An engine's capacity for LoRA adapters: `at_once` of up to `rank` in one batch, `kept` in host memory.

    vLLM accepts only certain ranks (config/lora.py, MaxLoRARanks). Adapters beyond `at_once` take turns; adapters
    beyond `kept` are read from disk at a call.
    """

    rank: int
    at_once: int
    kept: int

    @property
    def flags(self) -> tuple[str, ...]:
        sizes = {"--max-lora-rank": self.rank, "--max-loras": self.at_once, "--max-cpu-loras": self.kept}
        return ("--enable-lora", *(word for flag, size in sizes.items() for word in (flag, str(size))))


def slots_for(adapters: Sequence[Adapter]) -> AdapterSlots | None:
    """The slots for a model's adapters; None without adapters.

    Only the largest rank counts, so that most adapters that the catalog adds or removes require no engine restart.
    """
    if not adapters:
        return None
    largest = max(adapter.rank for adapter in adapters)
    return AdapterSlots(next(rank for rank in _RANKS if rank >= largest), _AT_ONCE, _KEPT)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The request for a plan of one endpoint.

    - `max_model_len` None: the longest context that fits, up to the model's limit.
    - `replicas` None: as many as fit.
    - `context` is the catalog's limit of the model's context, `settings` the catalog's engine settings.
    - `gpu_memory_utilization`, `kv_cache_bytes` (CPU) and `enforce_eager` are set by the node's owner.
    - `cuda_build` is the CUDA version of the engine's build, 13000 for 13.0; None: unknown.
    - `engine_version` selects the support snapshot.
    - `adapters` are the slots for LoRA adapters.
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
    """The request for a resolved alias.

    The catalog's context is a limit, not a requirement: a node with less memory serves a shorter context.
    """
    return PlanRequest(
        objective=objective,
        replicas=replicas,
        context=resolution.max_model_len,
        settings=resolution.engine,
        adapters=slots_for(resolution.model.adapters),
    )

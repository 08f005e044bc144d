"""Plan: the values that the planner returns: plans, candidates, and rejections with their arithmetic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

Objective = Literal["balanced", "latency", "throughput"]
_SAMPLING_FLAG: Final = "--override-generation-config"


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes per device (a GPU's memory, or the host's on CPU) of one replica."""

    weights_bytes: int
    activation_bytes: int
    graphs_bytes: int
    overhead_bytes: int
    kv_bytes: int
    kv_bytes_per_token: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one endpoint.

    - `gpus` has a tuple of GPU uuids per replica, empty on the CPU.
    - `kv_cache_bytes` is set on the CPU only, instead of `gpu_memory_utilization`.
    - `flags` are further engine flags of the catalog, as arguments.
    - `kernel` is the family of GPU kernels that multiplies the weights.
    - `workaround` is a sentence on the wrong computation that the plan avoids.
    """

    variant: str
    platform: Literal["cpu", "cuda"]
    gpus: tuple[tuple[str, ...], ...]
    tp: int
    pp: int
    dp: int
    expert_parallel: bool
    replicas: int
    dtype: str
    kv_cache_dtype: str
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float | None
    kv_cache_bytes: int | None
    enforce_eager: bool
    footprint: Footprint
    kv_tokens: int
    flags: tuple[str, ...] = ()
    kernel: str = ""
    workaround: str | None = None

    @property
    def all_weights_bytes(self) -> int:
        """Weight bytes on all devices of all replicas."""
        return self.footprint.weights_bytes * max(1, sum(map(len, self.gpus)))

    @property
    def greedy(self) -> bool:
        """True if the catalog sets temperature 0 for requests without a temperature."""
        if _SAMPLING_FLAG not in self.flags:
            return False
        sampling = json.loads(self.flags[self.flags.index(_SAMPLING_FLAG) + 1])
        return isinstance(sampling, dict) and sampling.get("temperature") == 0

    def group(self, index: int) -> tuple[str, ...]:
        """The GPUs of one replica; empty on the CPU."""
        return self.gpus[index] if index < len(self.gpus) else ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """The refusal of a candidate. Bytes are per device; `nearest` is the nearest change that fits."""

    candidate: str
    reason: str
    need_bytes: int | None = None
    have_bytes: int | None = None
    nearest: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible plan with its score: higher is better, comparable within one report only.

    `tight`: the plan starts, with a context below 32k tokens and below the request.
    """

    plan: Plan
    score: float
    why: str = ""
    tight: bool = False


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The result of the planner: `candidates`, the best first, and every rejection."""

    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]

    @property
    def verdict(self) -> Literal["compatible", "tight", "impossible"]:
        """The verdict of the report in one word."""
        if not self.candidates:
            return "impossible"
        return "tight" if self.candidates[0].tight else "compatible"

    @property
    def best(self) -> Plan | None:
        return self.candidates[0].plan if self.candidates else None

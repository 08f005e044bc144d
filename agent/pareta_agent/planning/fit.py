"""One candidate worked out to the byte: a variant in a layout on a pool, with the caps and KV dtype that suit.

The answer is a `Fit` or a `Rejection`; nothing is compared here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.footprint import (
    Caps,
    activation_bytes,
    graphs_bytes,
    overhead_bytes,
    weights_bytes,
)
from pareta_agent.planning.kv import KvShape, kv_shape
from pareta_agent.planning.layout import Layout
from pareta_agent.planning.place import Pool
from pareta_agent.planning.plan import Footprint, Rejection
from pareta_agent.planning.quant import Quant
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.settings import Settings
from pareta_agent.planning.support import activation_dtype, kv_fp8, uses_flashinfer
from pareta_registry.catalog import Architecture, Variant

UTILIZATION: Final = 0.92
COMFORTABLE_TOKENS: Final = 32 * 1024
LEAST_TOKENS: Final = 2048
_CONTEXT_BYTES: Final = 600 << 20
_CONTEXT_STEP: Final = 256
_ESTIMATE_ERROR: Final = 0.95
_NOISE_PER_MILLE: Final = 10


@dataclass(frozen=True, slots=True)
class Fit:
    """A candidate that starts. `room` says how freely: comfortable from 32k tokens of context up."""

    variant: Variant
    quant: Quant
    layout: Layout
    pool: Pool
    dtype: str
    kv_dtype: str
    eager: bool
    caps: Caps
    utilization: float
    footprint: Footprint
    max_model_len: int
    kv_tokens: int
    comfortable: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: everything that a footprint follows from, but the caps."""

    arch: Architecture
    variant: Variant
    quant: Quant
    layout: Layout
    pool: Pool
    kv_dtype: str
    settings: Settings
    request: PlanRequest
    wanted: int

    @property
    def exact(self) -> bool:
        """The context was asked for, so that a shorter one is no answer."""
        return self.request.max_model_len is not None


def utilization(pool: Pool) -> float:
    """The share of the GPU that the engine may claim: 0.92, or what is free less CUDA's own context.

    vLLM checks `free >= total * utilization` before anything else (v1/worker/utils.py, request_memory).
    """
    free = (pool.free_bytes - _CONTEXT_BYTES) / pool.total_bytes
    return max(0.0, math.floor(min(UTILIZATION, free) * 1000) / 1000)


def caps_ladder(pool: Pool, settings: Settings) -> list[Caps]:
    """vLLM's defaults for such a GPU (arg_utils.py, get_batch_defaults), then smaller ones for tight fits."""
    if pool.total_bytes >= 160 * GIB:
        default = Caps(16384, 1024)
    elif pool.total_bytes >= 70 * GIB and "a100" not in pool.name.lower():
        default = Caps(8192, 1024)
    else:
        default = Caps(2048, 256)
    ladder = [default, Caps(min(default.tokens, 8192), 256), Caps(2048, 256), Caps(2048, 64), Caps(1024, 16)]
    most_tokens, most_seqs = settings.max_num_batched_tokens, settings.max_num_seqs
    return list(
        dict.fromkeys(Caps(_least(caps.tokens, most_tokens), _least(caps.seqs, most_seqs)) for caps in ladder)
    )


def kv_dtypes(arch: Architecture, pool: Pool, settings: Settings) -> list[str]:
    """KV dtypes to try, the plain one first."""
    if settings.kv_cache_dtype is not None:
        return [settings.kv_cache_dtype]
    return ["auto", "fp8"] if kv_fp8(arch, pool.capability) else ["auto"]


def fit(trial: Trial) -> Fit | Rejection:
    """The first caps that leave a comfortable context, else those that leave the longest one."""
    best: Fit | None = None
    shortest: Rejection | None = None
    for caps in caps_ladder(trial.pool, trial.settings):
        found = _with_caps(trial, caps)
        if isinstance(found, Rejection):
            shortest = found
        elif found.comfortable:
            return found
        elif best is None or found.max_model_len > best.max_model_len:
            best = found
    assert best is not None or shortest is not None
    return best or shortest  # type: ignore[return-value]


def _with_caps(trial: Trial, caps: Caps) -> Fit | Rejection:
    """A cache under a percent of the GPU is within the estimate's own error: no plan rests on it."""
    arch, layout, pool = trial.arch, trial.layout, trial.pool
    dtype = trial.settings.dtype or activation_dtype(arch, pool.capability)
    share = trial.request.gpu_memory_utilization or utilization(pool)
    budget = math.ceil(pool.total_bytes * share)
    weights = weights_bytes(arch, trial.quant, layout, trial.variant.weights_bytes, dtype)
    activation = activation_bytes(arch, layout, caps, trial.wanted)
    overhead = overhead_bytes(uses_flashinfer(arch, pool.capability, trial.kv_dtype))
    shape = kv_shape(arch, layout, trial.kv_dtype, dtype, caps.tokens * (layout.pp + 1))
    for eager in _eager_options(trial.request.enforce_eager):
        graphs = 0 if eager else graphs_bytes(arch, layout, caps)
        kv = budget - weights - activation - graphs - overhead
        context = _context(shape, kv, trial) if kv * 1000 >= pool.total_bytes * _NOISE_PER_MILLE else 0
        if context:
            break
    if not context:
        need = weights + activation + overhead + shape.block_bytes * (shape.request_blocks(trial.wanted) + 1)
        return Rejection(_title(trial), _shortage(trial, kv), need, budget)
    footprint = Footprint(weights, activation, graphs, overhead, kv, shape.token_bytes)
    tokens = shape.tokens(kv, context)
    comfortable = context >= min(COMFORTABLE_TOKENS, trial.wanted)
    seqs = _seqs(shape, kv, caps, tokens)
    caps = Caps(caps.tokens, seqs)
    return Fit(
        trial.variant,
        trial.quant,
        layout,
        pool,
        dtype,
        trial.kv_dtype,
        eager,
        caps,
        share,
        footprint,
        context,
        tokens,
        comfortable,
    )


def _context(shape: KvShape, kv_bytes: int, trial: Trial) -> int:
    """The context to serve, 0 when too short. Under the model's own limit a margin is kept for the estimate."""
    longest = shape.longest(kv_bytes, trial.wanted)
    if longest == trial.wanted:
        return longest
    if trial.exact:
        return 0
    context = int(longest * _ESTIMATE_ERROR) // _CONTEXT_STEP * _CONTEXT_STEP
    return context if context >= min(LEAST_TOKENS, trial.wanted) else 0


def _seqs(shape: KvShape, kv_bytes: int, caps: Caps, kv_tokens: int) -> int:
    """More sequences than the cache can hold 256 tokens of would only wait for one another; a hybrid's
    constant states may take half of the pool.
    """
    seqs = min(caps.seqs, max(4, kv_tokens // 256))
    if shape.linear_groups:
        seqs = min(seqs, max(1, kv_bytes // shape.block_bytes // 2 // shape.linear_groups))
    return seqs


def _eager_options(fixed: bool | None) -> tuple[bool, ...]:
    return (False, True) if fixed is None else (fixed,)


def _least(value: int, limit: int | None) -> int:
    return value if limit is None else min(value, limit)


def _title(trial: Trial) -> str:
    kv = "" if trial.kv_dtype == "auto" else f", {trial.kv_dtype} KV"
    return f"{trial.variant.name} {trial.layout} on {trial.layout.gpus} × {trial.pool.name}{kv}"


def _shortage(trial: Trial, kv_bytes: int) -> str:
    if kv_bytes <= 0:
        return "weights and activations leave nothing for the KV cache"
    if trial.exact:
        return f"the KV cache cannot hold one request of {trial.wanted:,} tokens"
    return f"the KV cache cannot hold one request of {min(LEAST_TOKENS, trial.wanted):,} tokens"

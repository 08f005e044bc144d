"""Candidate fit: calculates the bytes of one variant in one layout on one pool, and selects caps and context.

The result is a `Fit` or a `Rejection`. `rank` compares the fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.memory.footprint import (
    Caps,
    activation_bytes,
    adapters_bytes,
    graphs_bytes,
    overhead_bytes,
    weights_bytes,
)
from pareta_agent.planning.memory.kv import KvShape, kv_shape
from pareta_agent.planning.memory.measured import Key, Measured
from pareta_agent.planning.placement.gpu_pools import GpuPool
from pareta_agent.planning.placement.layout import Layout
from pareta_agent.planning.plan import Footprint, Rejection
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.settings import PlannerSettings
from pareta_agent.planning.support.quant import Quant
from pareta_agent.planning.support.support import kv_fp8, uses_flashinfer
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
    """A candidate that starts. `comfortable`: the context has 32k tokens, or all that the request asked for."""

    variant: Variant
    quant: Quant
    layout: Layout
    pool: GpuPool
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
    """The inputs of a footprint, without the caps. `dtype` is the type of activations and of unquantized weights."""

    arch: Architecture
    variant: Variant
    quant: Quant
    layout: Layout
    pool: GpuPool
    kv_dtype: str
    settings: PlannerSettings
    request: PlanRequest
    measured: Measured
    wanted: int
    dtype: str
    utilization: float

    def key(self, eager: bool) -> Key:
        """The key of this trial's measurements."""
        return Key(
            artifact=self.variant.artifact,
            variant=self.variant.name,
            gpu=self.pool.name,
            layout=self.layout,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
            eager=eager,
            flags=self.settings.flags,
        )

    @property
    def exact(self) -> bool:
        """True if the request sets the context, so that a shorter context is a rejection."""
        return self.request.max_model_len is not None


def utilization(pool: GpuPool) -> float:
    """The share of the GPU that the engine may claim: 0.92, or less if less is free without CUDA's context.

    vLLM first checks `free >= total * utilization` (v1/worker/utils.py, request_memory).
    """
    free = (pool.free_bytes - _CONTEXT_BYTES) / pool.total_bytes
    return max(0.0, math.floor(min(UTILIZATION, free) * 1000) / 1000)


def caps_ladder(pool: GpuPool, settings: PlannerSettings) -> list[Caps]:
    """vLLM's default caps for such a GPU (arg_utils.py, get_batch_defaults), then smaller caps for tight fits."""
    if pool.total_bytes >= 160 * GIB:
        default = Caps(16384, 1024)
    elif pool.total_bytes >= 70 * GIB and "a100" not in pool.name.lower():
        default = Caps(8192, 1024)
    else:
        default = Caps(2048, 256)
    ladder = [default, Caps(min(default.tokens, 8192), 256), Caps(2048, 256), Caps(2048, 64), Caps(1024, 16)]
    most = Caps(settings.max_num_batched_tokens or default.tokens, settings.max_num_seqs or default.seqs)
    return list(dict.fromkeys(caps.within(most) for caps in ladder))


def kv_dtypes(arch: Architecture, pool: GpuPool, settings: PlannerSettings) -> list[str]:
    """The KV dtypes to try, unquantized first."""
    if settings.kv_cache_dtype is not None:
        return [settings.kv_cache_dtype]
    return ["auto", "fp8"] if kv_fp8(arch, pool.capability) else ["auto"]


def fit(trial: Trial) -> Fit | Rejection:
    """The first caps with a comfortable context, else the caps with the longest context.

    The smallest caps are tried first: if the smallest do not fit, no caps do.
    """
    *larger, smallest = caps_ladder(trial.pool, trial.settings)
    least = _with_caps(trial, smallest)
    if isinstance(least, Rejection):
        return least
    best = least
    for caps in larger:
        found = _with_caps(trial, caps)
        if isinstance(found, Rejection):
            continue
        if found.comfortable:
            return found
        if found.max_model_len > best.max_model_len:
            best = found
    return best


def _with_caps(trial: Trial, caps: Caps) -> Fit | Rejection:
    """Fits with CUDA graphs, else without. A start that failed on this node is not tried again."""
    budget = math.ceil(trial.pool.total_bytes * trial.utilization)
    rejection: Rejection | None = None
    for eager in (False, True) if trial.request.enforce_eager is None else (trial.request.enforce_eager,):
        key = trial.key(eager)
        if trial.measured.failed(key):
            continue
        held = caps.within(trial.measured.ceiling(key))
        footprint, shape = _footprint(trial, held, eager, budget)
        if context := _context(shape, footprint.kv_bytes, trial):
            return _fit(trial, held, eager, footprint, shape, context)
        needed = budget - footprint.kv_bytes + _least_cache_bytes(trial, shape)
        rejection = Rejection(_title(trial), _shortage(trial, footprint), needed, budget)
    return rejection or Rejection(_title(trial), "an earlier start of this candidate failed on this node")


def _fit(trial: Trial, caps: Caps, eager: bool, footprint: Footprint, shape: KvShape, context: int) -> Fit:
    tokens = shape.tokens(footprint.kv_bytes, context)
    return Fit(
        variant=trial.variant,
        quant=trial.quant,
        layout=trial.layout,
        pool=trial.pool,
        dtype=trial.dtype,
        kv_dtype=trial.kv_dtype,
        eager=eager,
        caps=Caps(caps.tokens, _seqs(shape, footprint.kv_bytes, caps, tokens)),
        utilization=trial.utilization,
        footprint=footprint,
        max_model_len=context,
        kv_tokens=tokens,
        comfortable=context >= min(COMFORTABLE_TOKENS, trial.wanted),
    )


def _footprint(trial: Trial, caps: Caps, eager: bool, budget: int) -> tuple[Footprint, KvShape]:
    """The closed form, with measured bytes instead of estimates if a start was measured."""
    arch, layout = trial.arch, trial.layout
    weights = weights_bytes(arch, trial.quant, layout, trial.variant.weights_bytes, trial.dtype)
    weights += adapters_bytes(arch, layout, trial.request.adapters, trial.dtype)
    activation = activation_bytes(arch, layout, caps, trial.wanted)
    graphs = 0 if eager else graphs_bytes(arch, layout, caps)
    overhead = overhead_bytes(uses_flashinfer(arch, trial.pool.capability, trial.kv_dtype))
    known = trial.measured.numbers(trial.key(eager))
    if known is not None:
        weights = known.weights_bytes or weights
        other = known.other_within(caps)
        if other is not None:
            activation, graphs, overhead = other, 0, 0
    kv = budget - weights - activation - graphs - overhead
    shape = kv_shape(arch, layout, trial.kv_dtype, trial.dtype, caps.tokens * (layout.pp + 1))
    if known is not None and known.kv_per_mille and kv > 0:
        usable = kv * min(known.kv_per_mille, 1000) // 1000
        kv, overhead = usable, overhead + kv - usable
    return Footprint(weights, activation, graphs, overhead, kv, shape.token_bytes), shape


def _context(shape: KvShape, kv_bytes: int, trial: Trial) -> int:
    """The context to serve; 0 if too short.

    A context below the wanted one keeps a margin for the error of the estimate. A cache below a percent of the GPU is
    within that error and counts as 0.
    """
    if kv_bytes * 1000 < trial.pool.total_bytes * _NOISE_PER_MILLE:
        return 0
    longest = shape.longest(kv_bytes, trial.wanted)
    if longest == trial.wanted:
        return longest
    if trial.exact:
        return 0
    context = int(longest * _ESTIMATE_ERROR) // _CONTEXT_STEP * _CONTEXT_STEP
    return context if context >= _floor(trial) else 0


def _floor(trial: Trial) -> int:
    """The shortest acceptable context."""
    return trial.wanted if trial.exact else min(LEAST_TOKENS, trial.wanted)


def _least_cache_bytes(trial: Trial, shape: KvShape) -> int:
    """The smallest cache for which `_context` returns more than 0."""
    tokens = trial.wanted if trial.exact else min(trial.wanted, math.ceil(LEAST_TOKENS / _ESTIMATE_ERROR))
    noise = -(-trial.pool.total_bytes * _NOISE_PER_MILLE // 1000)
    return max(shape.block_bytes * (shape.request_blocks(tokens) + 1), noise)


def _seqs(shape: KvShape, kv_bytes: int, caps: Caps, kv_tokens: int) -> int:
    """The maximum of sequences, each with at least 256 tokens of cache: more would only wait for one another.

    The constant states of a hybrid model may take half of the pool.
    """
    seqs = min(caps.seqs, max(4, kv_tokens // 256))
    if shape.linear_groups:
        seqs = min(seqs, max(1, kv_bytes // shape.block_bytes // 2 // shape.linear_groups))
    return seqs


def _title(trial: Trial) -> str:
    kv = "" if trial.kv_dtype == "auto" else f", {trial.kv_dtype} KV"
    return f"{trial.variant.name} {trial.layout} on {trial.layout.gpus} × {trial.pool.name}{kv}"


def _shortage(trial: Trial, footprint: Footprint) -> str:
    if footprint.kv_bytes <= 0:
        return "weights and activations leave nothing for the KV cache"
    return f"the KV cache cannot hold one request of {_floor(trial):,} tokens"

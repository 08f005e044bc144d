"""CPU planner: plans engines on the cores (`share.py`) and the memory of a host without GPUs. Pure.

- Engines compute in float32 if the catalog sets no dtype: float32 rounds alike on every processor. bfloat16 rounds by
  instruction set (AMX, AVX-512, none), enough to change a greedy answer (benchmarks/results/numerics.json).
- vLLM 0.32 runs eagerly on the CPU: compiled mode gave wrong text.
- The KV cache is an explicit number of bytes in blocks of 128 tokens (SmolLM2: 46,592 tokens per GiB in vLLM's log).
- Interpreter and libraries take about 4 GiB in the engine's processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pareta_agent.hardware.inventory import GIB, Inventory
from pareta_agent.planning.memory.footprint import Caps, activation_bytes, adapters_bytes, weights_bytes
from pareta_agent.planning.memory.kv import kv_shape
from pareta_agent.planning.memory.measured import Key, Measured
from pareta_agent.planning.placement.layout import Layout
from pareta_agent.planning.plan import Candidate, Footprint, Plan, PlanReport, Rejection
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.settings import PlannerSettings
from pareta_agent.planning.support.numerics import FALLBACK_DTYPE, dtype_workaround
from pareta_agent.planning.support.quant import parse_quant
from pareta_registry.catalog import Architecture, Variant

CPU: Final = "cpu"
"""The GPU name in measurements of CPU starts."""
_PROCESSES_BYTES: Final = 4 * GIB
_KEPT_FREE_BYTES: Final = 1 * GIB
_MOST_KV_BYTES: Final = 1 * GIB
_LEAST_TOKENS: Final = 2048
_COMFORTABLE_TOKENS: Final = 32 * 1024
_BLOCK_TOKENS: Final = 128
_CAPS: Final = Caps(tokens=2048, seqs=16)
_MIB: Final = 1 << 20


def plan_cpu(
    arch: Architecture,
    variants: Sequence[Variant],
    inventory: Inventory,
    request: PlanRequest,
    settings: PlannerSettings,
    measured: Measured,
) -> PlanReport:
    """Candidates by quality, then in the catalog's order, and a rejection for each variant and dtype that cannot run.

    A variant has a candidate for every dtype that fits and computes correctly, the preferred dtype first.
    """
    dtypes = _dtypes(arch, settings)
    wrong = {dtype: why for dtype in dtypes if (why := measured.numerics.wrong_dtype(dtype)) is not None}
    avoided = next(iter(wrong.values()), None)
    candidates, rejections = list[Candidate](), list[Rejection]()
    for variant in variants:
        if parse_quant(variant.quant).format != "none":
            rejections.append(
                Rejection(f"{variant.name} on the CPU", f"{variant.quant} weights require a GPU")
            )
            continue
        found = list[Candidate]()
        for dtype in dtypes:
            title = f"{variant.name} on the CPU in {dtype}"
            if dtype in wrong:
                rejections.append(Rejection(title, f"{wrong[dtype]} gives wrong text on this processor"))
                continue
            plan = _on_host(arch, variant, inventory, request, settings, measured, dtype, title)
            if isinstance(plan, Rejection):
                rejections.append(plan)
            else:
                found.append(_candidate(plan, variant, _wanted(arch, request), avoided))
        candidates += sorted(found, key=lambda one: one.tight)
    candidates.sort(key=lambda one: -one.score)
    return PlanReport(tuple(candidates), tuple(rejections))


def _dtypes(arch: Architecture, settings: PlannerSettings) -> tuple[str, ...]:
    """The catalog's dtype, else float32; then the fallback."""
    wanted = (settings.dtype, FALLBACK_DTYPE) if settings.dtype else (FALLBACK_DTYPE, arch.dtype)
    return tuple(dict.fromkeys(wanted))


def _candidate(plan: Plan, variant: Variant, wanted: int, avoided: str | None) -> Candidate:
    """The candidate of a plan. `avoided` is the preferred computation, if wrong on this processor."""
    if avoided is not None:
        plan = replace(plan, workaround=dtype_workaround(avoided, plan.dtype))
    why = f"no GPU: engines share the host's cores; in {plan.dtype}"
    return Candidate(plan, variant.quality, why, plan.max_model_len < min(_COMFORTABLE_TOKENS, wanted))


def _on_host(
    arch: Architecture,
    variant: Variant,
    inventory: Inventory,
    request: PlanRequest,
    settings: PlannerSettings,
    measured: Measured,
    dtype: str,
    title: str,
) -> Plan | Rejection:
    if inventory.memory_available_bytes is None:
        return Rejection(title, "the host's free memory is unknown")
    wanted = _wanted(arch, request)
    floor = wanted if request.max_model_len is not None else min(_LEAST_TOKENS, wanted)
    caps = _CAPS.within(
        Caps(settings.max_num_batched_tokens or _CAPS.tokens, settings.max_num_seqs or _CAPS.seqs)
    )
    shape = kv_shape(arch, Layout(), settings.kv_cache_dtype or "auto", dtype, caps.tokens, _BLOCK_TOKENS)
    weights = weights_bytes(arch, parse_quant(variant.quant), Layout(), variant.weights_bytes, dtype)
    weights += adapters_bytes(arch, Layout(), request.adapters, dtype)
    activation = activation_bytes(arch, Layout(), caps, wanted)
    each = inventory.memory_available_bytes // (request.replicas or 1) - _KEPT_FREE_BYTES
    free = each - weights - activation - _PROCESSES_BYTES
    per_mille = _kv_per_mille(variant, dtype, settings, measured)
    full = shape.block_bytes * (shape.request_blocks(wanted) + 1) * 1000 // per_mille + _MIB
    kv = request.kv_cache_bytes or max(0, min(max(_MOST_KV_BYTES, full), free)) // _MIB * _MIB
    usable = kv * per_mille // 1000
    context = shape.longest(usable, wanted)
    if kv > free or context < floor:
        least = shape.block_bytes * (shape.request_blocks(floor) + 1) * 1000 // per_mille
        need = each - free + max(kv, least)
        reason = "the host's free memory does not hold weights, cache and the engine's processes"
        return Rejection(title, reason, need, each)
    held = _PROCESSES_BYTES + kv - usable
    footprint = Footprint(weights, activation, 0, held, usable, shape.token_bytes)
    return _plan(
        variant, request, settings, caps, dtype, footprint, kv, context, shape.tokens(usable, context)
    )


def _kv_per_mille(variant: Variant, dtype: str, settings: PlannerSettings, measured: Measured) -> int:
    """The cache capacity of the last start with this key, in thousandths of the closed form, at most 1000."""
    kv_dtype = settings.kv_cache_dtype or "auto"
    key = Key(variant.artifact, variant.name, CPU, Layout(), dtype, kv_dtype, True, settings.flags)
    known = measured.numbers(key)
    return max(1, min(1000, known.kv_per_mille or 1000)) if known else 1000


def _wanted(arch: Architecture, request: PlanRequest) -> int:
    limit = arch.max_position_embeddings
    return min(limit, request.context or limit, request.max_model_len or limit)


def _plan(
    variant: Variant,
    request: PlanRequest,
    settings: PlannerSettings,
    caps: Caps,
    dtype: str,
    footprint: Footprint,
    kv: int,
    context: int,
    kv_tokens: int,
) -> Plan:
    replicas = request.replicas or 1
    return Plan(
        variant=variant.name,
        platform="cpu",
        gpus=((),) * replicas,
        tp=1,
        pp=1,
        dp=1,
        expert_parallel=False,
        replicas=replicas,
        dtype=dtype,
        kv_cache_dtype=settings.kv_cache_dtype or "auto",
        max_model_len=context,
        max_num_seqs=caps.seqs,
        max_num_batched_tokens=caps.tokens,
        gpu_memory_utilization=None,
        kv_cache_bytes=kv,
        enforce_eager=True,
        footprint=footprint,
        kv_tokens=kv_tokens,
        flags=settings.flags,
    )

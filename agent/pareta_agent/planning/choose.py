"""The planner: every layout that could run a model here, the best of them first, and why the others are not.

Pure and deterministic: the same architecture, variants, inventory and request give the same report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from pareta_agent.hardware.inventory import Inventory
from pareta_agent.planning.cpu import plan_cpu
from pareta_agent.planning.devices import device
from pareta_agent.planning.fit import Fit, Trial, fit, kv_dtypes
from pareta_agent.planning.layout import Layout, illegal, narrow_blocks
from pareta_agent.planning.place import Pool, groups, pools
from pareta_agent.planning.plan import Candidate, Plan, PlanReport, Rejection
from pareta_agent.planning.quant import Quant, parse_quant
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.roofline import Load, Machine, Speed, speed
from pareta_agent.planning.settings import Settings, read_settings
from pareta_agent.planning.support import Kind, Support, kind, snapshot, unsupported
from pareta_registry.catalog import Architecture, Variant

_TP_OVER_PCIE: Final = 2
_QUALITY_SLACK: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Scored:
    fit: Fit
    plan: Plan
    tier: int
    speed: Speed
    score: float
    natural_kv: bool
    nvlink: bool


def plan(
    architecture: Architecture, variants: Sequence[Variant], inventory: Inventory, request: PlanRequest
) -> PlanReport:
    """The best plan first, then the runners-up; every rejection with its arithmetic.

    No GPU in the inventory: a CPU plan. Variants are tried from the least lossy down, and a tier is left only
    where no layout of it reaches a 32k context; within a tier the roofline decides.
    """
    settings = read_settings(request.settings)
    if settings.refused:
        return PlanReport((), tuple(Rejection("catalog settings", reason) for reason in settings.refused))
    if not inventory.gpus:
        return plan_cpu(architecture, variants, inventory, request, settings)
    if (driver := _driver_too_old(inventory, request)) is not None:
        return PlanReport((), (driver,))
    support = snapshot(request.engine_version)
    places, rejections = pools(inventory)
    scored: list[_Scored] = []
    for pool, variant in product(places, variants):
        found, refused = _on_pool(architecture, variant, pool, request, settings, support)
        scored += found
        rejections += refused
    return PlanReport(_ranked(scored, request, variants), _without_repeats(rejections))


def _driver_too_old(inventory: Inventory, request: PlanRequest) -> Rejection | None:
    """A CUDA build runs on any driver of its own major version or newer."""
    have, build = inventory.cuda_driver, request.cuda_build
    if have is None or build is None or have // 1000 >= build // 1000:
        return None
    text = f"driver {inventory.driver or ''} speaks CUDA {have // 1000}.{have % 1000 // 10}"
    return Rejection(
        "driver",
        f"{text}, the engine is built for CUDA {build // 1000}",
        nearest=f"a driver for CUDA {build // 1000}, or an engine built for CUDA {have // 1000}",
    )


def _on_pool(
    arch: Architecture,
    variant: Variant,
    pool: Pool,
    request: PlanRequest,
    settings: Settings,
    support: Support,
) -> tuple[list[_Scored], list[Rejection]]:
    quant = parse_quant(variant.quant)
    title = f"{variant.name} on {pool.name}"
    least = variant.min_compute_capability
    have = pool.capability[0] + pool.capability[1] / 10
    if least is not None and have < least:
        return [], [Rejection(title, f"the catalog asks for compute capability {least}, this is {have}")]
    if (reason := unsupported(support, arch, quant, pool.capability)) is not None:
        return [], [Rejection(title, reason)]
    kernel_kind = kind(support.kernel(quant, pool.capability) or "")
    limit = min(arch.max_position_embeddings, request.context or arch.max_position_embeddings)
    wanted = min(request.max_model_len or limit, limit)
    scored, rejections = list[_Scored](), list[Rejection]()
    for layout in layouts(arch, pool):
        reason = illegal(arch, quant, layout)
        members, nvlink = ([], False) if reason else groups(pool, layout)
        if reason is None and not members:
            reason = "MIG instances cannot work together" if pool.mig else "too few GPUs"
        if reason is None and request.replicas is not None and len(members) < request.replicas:
            reason = f"{request.replicas} replicas do not fit, {len(members)} do"
        if reason is not None:
            rejections.append(Rejection(f"{variant.name} {layout} on {pool.name}", reason))
            continue
        members = members[: request.replicas]
        for kv_dtype in kv_dtypes(arch, pool, settings):
            trial = Trial(arch, variant, quant, layout, pool, kv_dtype, settings, request, wanted)
            found = fit(trial)
            if isinstance(found, Rejection):
                rejections.append(found)
                continue
            uuids = tuple(tuple(gpu.uuid for gpu in group) for group in members)
            machine = Machine(device(pool.name, pool.capability), nvlink)
            scored.append(_score(arch, found, uuids, kernel_kind, machine, request, settings))
    return scored, rejections


def layouts(arch: Architecture, pool: Pool) -> Iterator[Layout]:
    """Spreads to try on a pool, the simplest first: tensor parallel, then stages, then experts over ranks."""
    count = 1 if pool.mig else len(pool.gpus)
    for pp in range(1, count + 1):
        for tp in range(1, count // pp + 1):
            yield Layout(tp, pp)
    if arch.num_experts and pool.capability >= (9, 0):
        for dp in range(2, count + 1):
            yield Layout(1, 1, dp, expert_parallel=True)


def _score(
    arch: Architecture,
    found: Fit,
    uuids: tuple[tuple[str, ...], ...],
    kernel_kind: Kind,
    machine: Machine,
    request: PlanRequest,
    settings: Settings,
) -> _Scored:
    load = Load(
        found.footprint.weights_bytes, found.footprint.kv_bytes_per_token, found.kv_tokens, found.caps.seqs
    )
    narrow = narrow_blocks(arch, found.quant, found.layout)
    result = speed(arch, found.quant, kernel_kind, found.layout, machine, load, request.target_s, narrow)
    per_replica = (
        result.tokens_per_s
        if result.tpot_s <= request.target_s * 1.05
        else result.tokens_per_s * (request.target_s / result.tpot_s) ** 2
    )
    score = per_replica * len(uuids) if request.replicas is None else per_replica / found.layout.gpus
    natural = found.kv_dtype == "auto" or settings.kv_cache_dtype is not None or found.quant.format == "nvfp4"
    return _Scored(
        found,
        _plan(found, uuids, settings),
        _tier(found.quant, kernel_kind),
        result,
        score,
        natural,
        machine.nvlink,
    )


def _plan(found: Fit, uuids: tuple[tuple[str, ...], ...], settings: Settings) -> Plan:
    return Plan(
        variant=found.variant.name,
        platform="cuda",
        gpus=uuids,
        tp=found.layout.tp,
        pp=found.layout.pp,
        dp=found.layout.dp,
        expert_parallel=found.layout.expert_parallel,
        replicas=len(uuids),
        dtype=found.dtype,
        kv_cache_dtype=found.kv_dtype,
        max_model_len=found.max_model_len,
        max_num_seqs=found.caps.seqs,
        max_num_batched_tokens=found.caps.tokens,
        gpu_memory_utilization=found.utilization,
        kv_cache_bytes=None,
        enforce_eager=found.eager,
        footprint=found.footprint,
        kv_tokens=found.kv_tokens,
        flags=settings.flags,
    )


def _tier(quant: Quant, kernel_kind: Kind) -> int:
    """How much a format is preferred, 0 best: native 8-bit floats, then what was trained, then what loses more."""
    if quant.format in ("fp8", "fp8_block", "mxfp8"):
        return 0 if kernel_kind == "native" else 2
    if quant.format == "none":
        return 1
    if quant.format in ("int8", "w8a16"):
        return 3
    if quant.format in ("nvfp4", "mxfp4"):
        return 4 if kernel_kind == "native" or quant.format == "mxfp4" else 6
    return 5


def _ranked(
    scored: list[_Scored], request: PlanRequest, variants: Sequence[Variant]
) -> tuple[Candidate, ...]:
    """Comfortable ones first, plain KV before fp8 KV, then by tier and score; tight ones by their context."""
    best_quality = max((variant.quality for variant in variants), default=1.0)

    def key(one: _Scored) -> tuple[float, ...]:
        lossy = one.fit.variant.quality < best_quality - _QUALITY_SLACK
        if one.fit.comfortable:
            staged = _needless_stages(one, scored, request)
            return (0 if one.natural_kv else 1, lossy, one.tier, staged, -one.score)
        return (2, -one.fit.max_model_len, lossy, one.tier, -one.score)

    return tuple(Candidate(one.plan, one.score, "") for one in sorted(scored, key=key))


def _needless_stages(one: _Scored, scored: list[_Scored], request: PlanRequest) -> bool:
    """Pipeline stages double a token's way: only where tensor parallelism (two ranks over PCIe) would not
    fit, or would leave GPUs idle.
    """
    if one.plan.pp == 1:
        return False

    def replaces(other: _Scored) -> bool:
        if other.plan.pp > 1 or not other.fit.comfortable or other.fit.variant is not one.fit.variant:
            return False
        if other.plan.tp > _TP_OVER_PCIE and not other.nvlink:
            return False
        if request.replicas is None:
            return sum(map(len, other.plan.gpus)) >= sum(map(len, one.plan.gpus))
        return other.fit.layout.gpus <= one.fit.layout.gpus

    return any(replaces(other) for other in scored)


def _without_repeats(rejections: list[Rejection]) -> tuple[Rejection, ...]:
    return tuple(dict.fromkeys(rejections))

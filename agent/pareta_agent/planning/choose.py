"""Planner: builds a report of all candidates for a model on a node, the best first, with every rejection.

Pure and deterministic: the same architecture, variants, inventory and request give the same report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from pareta_agent.hardware.inventory import Inventory
from pareta_agent.planning.cpu_plan import plan_cpu
from pareta_agent.planning.fit import Fit, Trial, fit, kv_dtypes, utilization
from pareta_agent.planning.memory.measured import NOTHING, Measured
from pareta_agent.planning.placement.gpu_pools import GpuPool, Groups, groups, pools
from pareta_agent.planning.placement.layout import Layout, illegal, narrow_blocks
from pareta_agent.planning.plan import Plan, PlanReport, Rejection
from pareta_agent.planning.rank import Scored, ranked
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.roofline import Load, Machine, Speed, speed
from pareta_agent.planning.settings import PlannerSettings, read_settings
from pareta_agent.planning.support.devices import device
from pareta_agent.planning.support.numerics import gpu_key
from pareta_agent.planning.support.quant import Quant, parse_quant
from pareta_agent.planning.support.support import Kind, Support, activation_dtype, kind, snapshot, unsupported
from pareta_registry.catalog import Architecture, Variant

_DRIVER_BRANCHES: Final = ((580, 13000), (525, 12000), (450, 11000))


def plan(
    architecture: Architecture,
    variants: Sequence[Variant],
    inventory: Inventory,
    request: PlanRequest,
    *,
    support: Support | None = None,
    measured: Measured = NOTHING,
) -> PlanReport:
    """The best plan first, then the runners-up; every rejection with its arithmetic.

    - An inventory without GPUs gives a CPU plan.
    - Variants rank by tier, the least lossy first. A lower tier is selected only if no layout of a higher tier reaches
      a 32k context. Within a tier the roofline decides.
    - `measured` corrects the closed form by earlier starts of the same key, and excludes permanent failures.
    """
    settings = read_settings(request.settings)
    if settings.refused:
        return PlanReport((), tuple(Rejection("catalog settings", reason) for reason in settings.refused))
    if request.adapters is not None:
        settings = replace(settings, flags=(*settings.flags, *request.adapters.flags))
    if not inventory.gpus and inventory.gpus_taken:
        return PlanReport((), (Rejection("this node", "every GPU belongs to another endpoint"),))
    if not inventory.gpus:
        return plan_cpu(architecture, variants, inventory, request, settings, measured)
    if (driver := _driver_too_old(inventory, request)) is not None:
        return PlanReport((), (driver,))
    table = support or snapshot(request.engine_version)
    question = _Question(architecture, request, settings, table, measured)
    places, sick = pools(inventory)
    scored, rejections = _on_pools(question, variants, places)
    if not scored:
        places, _ = pools(inventory, exact=True)
        scored, rejections = _on_pools(question, variants, places)
    return PlanReport(ranked(scored, variants), tuple(dict.fromkeys([*sick, *rejections])))


@dataclass(frozen=True, slots=True)
class _Question:
    """The inputs that all candidates of one plan share."""

    arch: Architecture
    request: PlanRequest
    settings: PlannerSettings
    support: Support
    measured: Measured

    @property
    def wanted(self) -> int:
        """The wanted context in tokens: the request's, within the limits of the model and the catalog."""
        limit = self.arch.max_position_embeddings
        return min(limit, self.request.context or limit, self.request.max_model_len or limit)


def layouts(arch: Architecture, pool: GpuPool) -> Iterator[Layout]:
    """The layouts to try on a pool, the simplest first: tensor, then pipeline, then expert parallelism."""
    count = 1 if pool.mig else len(pool.gpus)
    for pp in range(1, count + 1):
        for tp in range(1, count // pp + 1):
            yield Layout(tp, pp)
    if arch.num_experts and pool.capability >= (9, 0):
        for dp in range(2, count + 1):
            yield Layout(1, 1, dp, expert_parallel=True)


def _driver_too_old(inventory: Inventory, request: PlanRequest) -> Rejection | None:
    """The rejection of a driver that is older than the engine's CUDA major version."""
    have, build = inventory.cuda_driver or _cuda_of(inventory.driver), request.cuda_build
    if have is None or build is None or have // 1000 >= build // 1000:
        return None
    return Rejection(
        "driver",
        f"driver {inventory.driver or 'unknown'} supports CUDA {have // 1000}.{have % 1000 // 10}, "
        f"the engine is built for CUDA {build // 1000}",
        nearest=f"a driver for CUDA {build // 1000}, or an engine built for CUDA {have // 1000}",
    )


def _cuda_of(driver: str | None) -> int | None:
    """The CUDA version of a driver by its branch (NVIDIA's compatibility table), for drivers without that field."""
    branch = (driver or "").split(".")[0]
    if not branch.isdigit():
        return None
    return next((cuda for least, cuda in _DRIVER_BRANCHES if int(branch) >= least), 10000)


def _on_pools(
    question: _Question, variants: Sequence[Variant], places: Sequence[GpuPool]
) -> tuple[list[Scored], list[Rejection]]:
    scored, rejections = list[Scored](), list[Rejection]()
    for pool, variant in product(places, variants):
        found, refused = _on_pool(question, variant, pool)
        scored += found
        rejections += refused
    return scored, rejections


def _on_pool(question: _Question, variant: Variant, pool: GpuPool) -> tuple[list[Scored], list[Rejection]]:
    quant = parse_quant(variant.quant)
    if (reason := _impossible_there(question, variant, quant, pool)) is not None:
        return [], [Rejection(f"{variant.name} on {pool.name}", reason)]
    scored, rejections = list[Scored](), list[Rejection]()
    for layout in layouts(question.arch, pool):
        cuts = _cuts(question, quant, layout, pool)
        if isinstance(cuts, str):
            rejections.append(Rejection(f"{variant.name} {layout} on {pool.name}", cuts))
            continue
        for kv_dtype in kv_dtypes(question.arch, pool, question.settings):
            found = fit(_trial(question, variant, quant, layout, pool, kv_dtype))
            if isinstance(found, Rejection):
                rejections.append(found)
            else:
                scored += [_scored(question, found, members, nvlink) for members, nvlink in cuts]
    return scored, rejections


def _impossible_there(question: _Question, variant: Variant, quant: Quant, pool: GpuPool) -> str | None:
    least, have = variant.min_compute_capability, pool.capability
    if least is not None and have[0] + have[1] / 10 < least:
        return f"the catalog requires compute capability {least}, the GPU has {have[0]}.{have[1]}"
    if (wrong := question.measured.numerics.wrong_format(quant.format)) is not None:
        return wrong
    if question.measured.refused(variant.artifact, have):
        return "an earlier start on such a GPU failed permanently"
    return unsupported(question.support, question.arch, quant, have)


def _cuts(
    question: _Question, quant: Quant, layout: Layout, pool: GpuPool
) -> list[tuple[Groups, bool]] | str:
    """The GPU groups of the replicas, or the reason against the layout."""
    if (reason := illegal(question.arch, quant, layout)) is not None:
        return reason
    wanted = question.request.replicas
    if cuts := groups(pool, layout, wanted):
        return cuts
    most = max((len(members) for members, _ in groups(pool, layout)), default=0)
    return f"{wanted} replicas do not fit, only {most}" if most else "too few GPUs in one pool"


def _trial(
    question: _Question, variant: Variant, quant: Quant, layout: Layout, pool: GpuPool, kv_dtype: str
) -> Trial:
    return Trial(
        arch=question.arch,
        variant=variant,
        quant=quant,
        layout=layout,
        pool=pool,
        kv_dtype=kv_dtype,
        settings=question.settings,
        request=question.request,
        measured=question.measured,
        wanted=question.wanted,
        dtype=question.settings.dtype or activation_dtype(question.arch, pool.capability),
        utilization=question.request.gpu_memory_utilization or utilization(pool),
    )


def _scored(question: _Question, found: Fit, members: Groups, nvlink: bool) -> Scored:
    """The fit with its score: tokens a second of the node, or of one GPU if the request sets the replicas.

    A layout that misses the target time per token loses in proportion, for latency in proportion to the square.
    """
    pool, request = found.pool, question.request
    kernel = question.support.kernel(found.quant, pool.capability) or ""
    kernel_kind = kind(kernel)
    uuids = tuple(tuple(gpu.uuid for gpu in group) for group in members)
    result = _speed(question, found, kernel_kind, nvlink)
    miss = min(1.0, request.target_s / result.tpot_s * 1.05)
    per_replica = result.tokens_per_s * (miss * miss if request.objective == "latency" else miss)
    count = len(uuids) if request.replicas is None else 1 / found.layout.gpus
    plain_kv = found.kv_dtype == "auto" or question.settings.kv_cache_dtype is not None
    shipped_with_fp8 = found.quant.format == "nvfp4" and question.arch.kv_lora_rank is None
    return Scored(
        fit=found,
        plan=question.measured.numerics.corrected(
            _plan(found, uuids, question.settings, kernel),
            gpu_key(pool.name, pool.capability),
            mla=question.arch.kv_lora_rank is not None,
        ),
        kernel=kernel,
        kind=kernel_kind,
        nvlink=nvlink,
        natural_kv=plain_kv or shipped_with_fp8,
        filled=request.replicas is None,
        busy=request.objective == "throughput",
        hurried=request.objective == "latency",
        speed=result,
        score=per_replica * count,
    )


def _speed(question: _Question, found: Fit, kernel_kind: Kind, nvlink: bool) -> Speed:
    footprint = found.footprint
    return speed(
        question.arch,
        found.quant,
        kernel_kind,
        found.layout,
        Machine(device(found.pool.name, found.pool.capability), nvlink),
        Load(footprint.weights_bytes, footprint.kv_bytes_per_token, found.kv_tokens, found.caps.seqs),
        question.request,
        narrow_blocks(question.arch, found.quant, found.layout),
    )


def _plan(found: Fit, uuids: tuple[tuple[str, ...], ...], settings: PlannerSettings, kernel: str) -> Plan:
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
        kernel=kernel,
    )

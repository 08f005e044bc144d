"""Nearest fit: finds the nearest change that makes a refused request fit, by planning again. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pareta_agent.hardware.inventory import Gpu, Inventory
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.measured import NOTHING, Measured
from pareta_agent.planning.plan import PlanReport, Rejection
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.support import Support
from pareta_registry.catalog import Architecture, Variant

_COUNTS = (1, 2, 4, 8, 16)


def plan_or_nearest(
    architecture: Architecture,
    variants: Sequence[Variant],
    inventory: Inventory,
    request: PlanRequest,
    *,
    support: Support | None = None,
    measured: Measured = NOTHING,
) -> PlanReport:
    """The report of `plan`. An impossible report begins with a rejection whose `nearest` is the change that fits."""
    report = plan(architecture, variants, inventory, request, support=support, measured=measured)
    if report.candidates:
        return report
    ways = tuple(_ways(architecture, variants, inventory, request))
    shortest = min(
        (one for one in report.rejections if one.need_bytes is not None and one.have_bytes is not None),
        key=lambda one: (one.need_bytes or 0) - (one.have_bytes or 0),
        default=None,
    )
    if shortest is None and not ways:
        return report
    first = Rejection(
        candidate=shortest.candidate if shortest else "this node",
        reason=shortest.reason if shortest else "no candidate is possible",
        need_bytes=shortest.need_bytes if shortest else None,
        have_bytes=shortest.have_bytes if shortest else None,
        nearest=("fits " + ", or ".join(ways)) if ways else None,
    )
    rest = tuple(one for one in report.rejections if one is not shortest)
    return PlanReport((), (first, *rest))


def _ways(
    arch: Architecture, variants: Sequence[Variant], inventory: Inventory, request: PlanRequest
) -> Iterator[str]:
    def best(changed: Inventory, asked: PlanRequest) -> PlanReport:
        return plan(arch, variants, changed, asked)

    if request.max_model_len is not None:
        shorter = best(inventory, replace(request, max_model_len=None, context=request.max_model_len)).best
        if shorter is not None:
            yield f"with max_model_len {shorter.max_model_len:,}"
    if request.replicas is not None and request.replicas > 1:
        counts = (count for count in range(request.replicas - 1, 0, -1))
        fewer = next(
            (count for count in counts if best(inventory, replace(request, replicas=count)).best), None
        )
        if fewer is not None:
            yield f"with {fewer} replica{'s' if fewer > 1 else ''}"
    if inventory.gpus:
        yield from _with_other_gpus(arch, variants, inventory, request)
    elif inventory.memory_available_bytes is not None and inventory.memory_bytes is not None:
        freed = replace(inventory, memory_available_bytes=inventory.memory_bytes)
        if best(freed, request).best:
            yield "once other programs free host memory"


def _with_other_gpus(
    arch: Architecture, variants: Sequence[Variant], inventory: Inventory, request: PlanRequest
) -> Iterator[str]:
    """Yields the same GPUs idle, else a larger number of the node's best kind of GPU, with the same links."""
    idle = tuple(
        replace(gpu, memory_free_bytes=gpu.usable_bytes) if gpu.usable_bytes is not None else gpu
        for gpu in inventory.gpus
    )
    if idle != inventory.gpus and plan(arch, variants, replace(inventory, gpus=idle), request).best:
        yield "once other programs free the GPUs"
        return
    sound = [gpu for gpu in idle if gpu.fault is None and not gpu.mig_enabled and gpu.mig is None]
    if not sound:
        return
    model = max(sound, key=lambda gpu: gpu.usable_bytes or 0)
    for count in _COUNTS:
        if count > sum(gpu.name == model.name for gpu in sound):
            more = _copies(model, count, linked=bool(model.nvlink_peers))
            if plan(arch, variants, replace(inventory, gpus=more), request).best:
                yield f"on {count} × {model.name}"
                return


def _copies(model: Gpu, count: int, linked: bool) -> tuple[Gpu, ...]:
    uuids = [f"copy-{index}" for index in range(count)]
    return tuple(
        replace(
            model, uuid=uuid, nvlink_peers=tuple(other for other in uuids if other != uuid) if linked else ()
        )
        for uuid in uuids
    )

"""Packing: plans several endpoints on one node, the first replica of each before any second replica. Pure.

An endpoint gets whole GPUs. If the node has fewer GPUs than endpoints, small models share a GPU in equal parts of its
memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pareta_agent.hardware.inventory import Gpu, Inventory
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.measured import NOTHING, Measured
from pareta_agent.planning.plan import Plan, PlanReport
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.support import Support
from pareta_registry.catalog import Architecture, Variant


@dataclass(frozen=True, slots=True)
class Need:
    """The request of one endpoint. `replicas` None in the request: one replica, and more if GPUs are left."""

    endpoint: str
    architecture: Architecture
    variants: Sequence[Variant]
    request: PlanRequest


@dataclass(frozen=True, slots=True)
class _Asked:
    """The planner with the inputs that all requests of one packing share."""

    support: Support | None
    measured: Measured

    def __call__(self, need: Need, inventory: Inventory) -> PlanReport:
        return plan(
            need.architecture,
            need.variants,
            inventory,
            need.request,
            support=self.support,
            measured=self.measured,
        )


def pack(
    needs: Sequence[Need],
    inventory: Inventory,
    *,
    support: Support | None = None,
    measured: Measured = NOTHING,
) -> Mapping[str, PlanReport]:
    """A report for each endpoint. Plans share a GPU only if the shares add up to less than the GPU.

    Endpoints are planned by the number of GPUs, the largest first, then in the given order. Without GPUs each endpoint
    has an equal part of the host's memory.
    """
    if not inventory.gpus and inventory.memory_available_bytes is not None:
        part_bytes = inventory.memory_available_bytes // max(len(needs), 1)
        inventory = replace(inventory, memory_available_bytes=part_bytes)
    ask = _Asked(support, measured)
    order = sorted(needs, key=lambda need: -_gpus_of(ask(_with(need, 1), inventory).best))
    reports: dict[str, PlanReport] = {}
    for need in order:
        one = _with(need, need.request.replicas or 1)
        reports[need.endpoint] = ask(one, inventory.without(_taken(reports)))
    if inventory.gpus:
        for need in order:
            if reports[need.endpoint].best is None:
                reports |= _share(need, needs, reports, inventory, ask)
        _fill(order, reports, inventory, ask)
    return reports


def _share(
    need: Need, needs: Sequence[Need], reports: Mapping[str, PlanReport], inventory: Inventory, ask: _Asked
) -> dict[str, PlanReport]:
    """New reports for all endpoints on one GPU that `need` shares; empty if no GPU has space for `need`."""
    by_name = {other.endpoint: other for other in needs}
    for gpu in inventory.gpus:
        on_it = [
            name for name, report in reports.items() if report.best and report.best.gpus == ((gpu.uuid,),)
        ]
        if not on_it or gpu.usable_bytes is None:
            continue
        part = _part(gpu, len(on_it) + 1)
        asked = [*(by_name[name] for name in on_it), need]
        shared = {one.endpoint: ask(_with(one, 1), replace(inventory, gpus=(part,))) for one in asked}
        if all(report.best is not None and report.verdict == "compatible" for report in shared.values()):
            return shared
    return {}


def _part(gpu: Gpu, users: int) -> Gpu:
    """The GPU with an equal part of its free memory, for one of several users."""
    free = gpu.usable_bytes if gpu.memory_free_bytes is None else gpu.memory_free_bytes
    return replace(gpu, memory_free_bytes=(free or 0) // users)


def _fill(order: Sequence[Need], reports: dict[str, PlanReport], inventory: Inventory, ask: _Asked) -> None:
    """Adds replicas on the remaining GPUs, one endpoint after the other, to endpoints without a set number."""
    growing = [need for need in order if need.request.replicas is None and _sole(need, reports)]
    while growing:
        still = []
        for need in growing:
            own = reports[need.endpoint].best
            if own is None:
                continue
            others = _taken({name: report for name, report in reports.items() if name != need.endpoint})
            more = ask(_with(need, own.replicas + 1), inventory.without(others))
            if more.best is not None:
                reports[need.endpoint] = more
                still.append(need)
        growing = still


def _sole(need: Need, reports: Mapping[str, PlanReport]) -> bool:
    """True if no other endpoint uses this endpoint's GPUs."""
    own = _taken({need.endpoint: reports[need.endpoint]})
    others = _taken({name: report for name, report in reports.items() if name != need.endpoint})
    return bool(own) and not own & others


def _with(need: Need, replicas: int) -> Need:
    return replace(need, request=replace(need.request, replicas=replicas))


def _taken(reports: Mapping[str, PlanReport]) -> frozenset[str]:
    plans = [report.best for report in reports.values() if report.best]
    return frozenset(uuid for found in plans for group in found.gpus for uuid in group)


def _gpus_of(found: Plan | None) -> int:
    return 0 if found is None else sum(map(len, found.gpus))

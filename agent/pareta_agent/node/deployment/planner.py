"""Planner: plans endpoints on the present node, beside running engines and together with unplaced endpoints.

An endpoint's own engines count as gone, because a new start ends them first. The free memory before an engine's start
is therefore remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from pareta_agent.hardware.inventory import Gpu, Inventory
from pareta_agent.planning.memory.measured import Measured
from pareta_agent.planning.nearest import plan_or_nearest
from pareta_agent.planning.placement.pack import Need, pack
from pareta_agent.planning.plan import Plan, PlanReport, Rejection
from pareta_agent.planning.support.support import Support


class Planner:
    """`inventory` reads the node and blocks; `support` returns the engine's supported features."""

    def __init__(self, inventory: Callable[[], Inventory], support: Callable[[], Support]) -> None:
        self._inventory, self._support = inventory, support
        self._free_bytes: dict[str, dict[str, int]] = {}
        self._packed: dict[str, tuple[Need, PlanReport]] = {}

    def forget(self, endpoint: str) -> None:
        self._free_bytes.pop(endpoint, None)
        self._packed.pop(endpoint, None)

    def adopted(self, endpoint: str, free_bytes: Mapping[str, int]) -> None:
        """Remembers the free memory of each GPU before an earlier agent started the endpoint's engines."""
        self._free_bytes[endpoint] = dict(free_bytes)

    async def judge(
        self, need: Need, taken: frozenset[str], measured: Measured, leaving: Collection[str] = ()
    ) -> PlanReport:
        """A report for a plan request on the node without the taken GPUs; remembers nothing."""
        return self._alone(need, (await self._without(leaving)).without(taken), measured)

    async def _without(self, engines: Iterable[str]) -> Inventory:
        """The node as if these engines had ended."""
        inventory = await asyncio.to_thread(self._inventory)
        for engine in engines:
            inventory = _as_if_ended(inventory, self._free_bytes.get(engine, {}))
        return inventory

    async def report(
        self,
        needs: Sequence[Need],
        running: Mapping[str, Plan],
        measured: Measured,
        leaving: Collection[str] = (),
    ) -> PlanReport:
        """The first plan request's report. Free GPUs are divided among all requests; a later request finds its part
        stored here. Memory of `leaving` engines counts as free.
        """
        need = needs[0]
        if (kept := self._packed.pop(need.endpoint, None)) is not None and kept[0] == need:
            return kept[1]
        whole = await self._without([need.endpoint, *leaving])
        taken = frozenset(uuid for plan in running.values() for group in plan.gpus for uuid in group)
        free = whole.without(taken)
        report = self._together(needs, free, measured) if len(needs) > 1 else None
        if report is None or report.best is None:
            report = self._alone(need, free, measured)
        if report.best is not None:
            self._remember(need.endpoint, report.best, whole)
        elif taken and self._alone(need, whole, measured).best is not None:
            report = _crowded_out(report, running)
        return report

    def _together(self, needs: Sequence[Need], free: Inventory, measured: Measured) -> PlanReport:
        found = pack(needs, free, support=self._support(), measured=measured)
        for other in needs[1:]:
            if (best := found[other.endpoint].best) is not None:
                self._packed[other.endpoint] = (other, found[other.endpoint])
                self._remember(other.endpoint, best, free)
        return found[needs[0].endpoint]

    def _alone(self, need: Need, inventory: Inventory, measured: Measured) -> PlanReport:
        return plan_or_nearest(
            need.architecture,
            need.variants,
            inventory,
            need.request,
            support=self._support(),
            measured=measured,
        )

    def _remember(self, endpoint: str, plan: Plan, inventory: Inventory) -> None:
        own = {uuid for group in plan.gpus for uuid in group}
        self._free_bytes[endpoint] = {
            gpu.uuid: gpu.memory_free_bytes
            for gpu in inventory.gpus
            if gpu.uuid in own and gpu.memory_free_bytes is not None
        }


def _as_if_ended(inventory: Inventory, free_bytes: Mapping[str, int]) -> Inventory:
    """The node with the free memory from before the start of an endpoint's own engines."""

    def freed(gpu: Gpu) -> Gpu:
        if gpu.memory_free_bytes is None or gpu.uuid not in free_bytes:
            return gpu
        return replace(gpu, memory_free_bytes=max(gpu.memory_free_bytes, free_bytes[gpu.uuid]))

    return replace(inventory, gpus=tuple(freed(gpu) for gpu in inventory.gpus))


def _crowded_out(report: PlanReport, running: Mapping[str, Plan]) -> PlanReport:
    names = ", ".join(sorted(endpoint for endpoint, plan in running.items() if any(plan.gpus)))
    first = Rejection(
        "this node",
        "other endpoints have the required GPUs",
        nearest=f"once {names} is stopped, or has fewer replicas",
    )
    return PlanReport((), (first, *report.rejections))

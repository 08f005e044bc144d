"""Placement: maps engines to the devices of this node. Running engines hold devices; sleeping engines free devices.

Small models may share a GPU by shares of its memory: engines conflict when the shares exceed the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pareta_agent.engine.fleet import Fleet
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.planning.placement.gpu_pools import gpu_groups, rivals
from pareta_agent.planning.plan import Plan


class Places:
    """`plans`, set before first use, returns the present plan of each engine by name, after remedies and lost GPUs.
    `latest` returns the node as last read.
    """

    plans: Callable[[], dict[str, Plan]]

    def __init__(self, fleet: Fleet, latest: Callable[[], Inventory]) -> None:
        self._fleet, self._latest = fleet, latest

    def running(self, but: str) -> dict[str, Plan]:
        """The plans of other engines that hold devices."""
        return {engine: p for engine, p in self.plans().items() if engine != but and self._fleet.runs(engine)}

    def asleep(self, but: str) -> dict[str, Plan]:
        """The plans of other engines that sleep. A new engine may take the devices, but prefers free devices."""
        return {
            engine: p for engine, p in self.plans().items() if engine != but and self._fleet.sleeps(engine)
        }

    def gpu_groups(self, engine: str, plan: Plan, replicas: int) -> tuple[tuple[str, ...], ...]:
        """The GPUs on which the plan may run now: the engine's own GPUs, or GPUs in no other plan, asleep included. A
        sleeping engine stays in place and moves when it wakes.
        """
        if self._fleet.sleeps(engine):
            return plan.gpus
        plans = self.plans()
        own = gpus_of({engine: plans[engine]}) if engine in plans else frozenset()
        others = gpus_of({name: each for name, each in plans.items() if name != engine})
        return gpu_groups(plan, replicas, self._latest(), others - own)

    def leaving(self, but: str) -> dict[str, Plan]:
        """The plans of other engines that are ending or about to end and still exist."""
        return {
            engine: p
            for engine, p in self.plans().items()
            if engine != but and self._fleet.is_terminating(engine)
        }

    def keeps_apart(self, plan: Plan) -> bool:
        """True when host memory is separate from the plan's devices, so that sleeping weights free the devices."""
        return plan.platform == "cuda" and not self._latest().unified_memory

    def free(self, engine: str) -> bool:
        """True when the engine's last plan may start again on the same devices."""
        plan = self.plans().get(engine)
        if plan is None:
            return True
        sound = gpu_groups(plan, len(plan.gpus), self._latest(), frozenset()) == plan.gpus
        return sound and not rivals(plan, self.running(engine) | self.leaving(engine))

    async def vacated(self, engine: str, plan: Plan) -> bool:
        """Evicts engines from the plan's devices and waits for the end; False when another engine runs there by now.

        Await nothing between True and the start of the engine.
        """
        for other in rivals(plan, self.running(engine) | self.leaving(engine)):
            await self._fleet.evict(other)
        return not rivals(plan, self.running(engine) | self.leaving(engine))


def gpus_of(running: Mapping[str, Plan]) -> frozenset[str]:
    return frozenset(uuid for plan in running.values() for group in plan.gpus for uuid in group)

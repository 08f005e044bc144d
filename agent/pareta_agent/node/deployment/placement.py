"""Who has which devices of this node: engines that run hold theirs, and what sleeps leaves its own to others.

Small models may share a GPU by shares of its memory, so what counts is whether they add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pareta_agent.engine.fleet import Fleet
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.planning.placement.gpu_pools import gpu_groups, rivals
from pareta_agent.planning.plan import Plan


class Places:
    """`plans`, set before first use, is what all engines run by now, by name: the planner's word, mended by failed
    starts and broken GPUs. `latest` is the node as it was read last.
    """

    plans: Callable[[], dict[str, Plan]]

    def __init__(self, fleet: Fleet, latest: Callable[[], Inventory]) -> None:
        self._fleet, self._latest = fleet, latest

    def running(self, but: str) -> dict[str, Plan]:
        """The plans of other engines that hold their devices."""
        return {engine: p for engine, p in self.plans().items() if engine != but and self._fleet.runs(engine)}

    def asleep(self, but: str) -> dict[str, Plan]:
        """The plans of other engines that sleep: others may have their devices, but had better have what is idle."""
        return {
            engine: p for engine, p in self.plans().items() if engine != but and self._fleet.sleeps(engine)
        }

    def gpu_groups(self, engine: str, plan: Plan, replicas: int) -> tuple[tuple[str, ...], ...]:
        """Where these engines' plan may run now: on what they have, or on what nobody has, asleep or not. What sleeps
        is moved when it wakes: others may run where it was.
        """
        if self._fleet.sleeps(engine):
            return plan.gpus
        plans = self.plans()
        own = gpus_of({engine: plans[engine]}) if engine in plans else frozenset()
        others = gpus_of({name: each for name, each in plans.items() if name != engine})
        return gpu_groups(plan, replicas, self._latest(), others - own)

    def leaving(self, but: str) -> dict[str, Plan]:
        """The plans of other engines that left their devices to others, or are about to, and are still there."""
        return {
            engine: p
            for engine, p in self.plans().items()
            if engine != but and self._fleet.is_terminating(engine)
        }

    def keeps_apart(self, plan: Plan) -> bool:
        """Whether weights in the host's memory would leave the plan's devices to others."""
        return plan.platform == "cuda" and not self._latest().unified_memory

    def free(self, engine: str) -> bool:
        """Whether what the engine ran last may start again now, where it was."""
        plan = self.plans().get(engine)
        if plan is None:
            return True
        sound = gpu_groups(plan, len(plan.gpus), self._latest(), frozenset()) == plan.gpus
        return sound and not rivals(plan, self.running(engine) | self.leaving(engine))

    async def vacated(self, engine: str, plan: Plan) -> bool:
        """Waits until what is leaving has left room for the plan; False: by now somebody runs there.

        Between a True and the start of the engine nothing may be awaited.
        """
        for other in rivals(plan, self.running(engine) | self.leaving(engine)):
            await self._fleet.evict(other)
        return not rivals(plan, self.running(engine) | self.leaving(engine))


def gpus_of(running: Mapping[str, Plan]) -> frozenset[str]:
    return frozenset(uuid for plan in running.values() for group in plan.gpus for uuid in group)

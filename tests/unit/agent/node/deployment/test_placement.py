"""Who has which GPUs, and what sleeps leaves to others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from engine_plans import PLAN
from planner_values import gpus, node

from pareta_agent.hardware.inventory import Health, Inventory
from pareta_agent.node.deployment.placement import Places
from pareta_agent.planning.plan import Plan

HALF = replace(PLAN, platform="cuda", gpus=(("GPU-0",),), gpu_memory_utilization=0.45, kv_cache_bytes=None)
WHOLE = replace(HALF, gpu_memory_utilization=0.92)
PAIR = replace(WHOLE, gpus=(("GPU-0",), ("GPU-1",)), replicas=2)
SOUND = node(gpus(3, linked=False))


class Fleet:
    """What each engine does, by name: `runs`, `sleeps` or `is_terminating`, which is asleep with something left."""

    def __init__(self, **does: str) -> None:
        self.does = does

    def runs(self, engine: str) -> bool:
        return self.does.get(engine) == "runs"

    def sleeps(self, engine: str) -> bool:
        return self.does.get(engine) in ("sleeps", "lingers")

    def is_terminating(self, engine: str) -> bool:
        return self.does.get(engine) == "lingers"

    async def evict(self, engine: str) -> None:
        if self.is_terminating(engine):
            self.does[engine] = "sleeps"


def places(fleet: Fleet, plans: dict[str, Plan], inventory: Inventory = SOUND) -> Places:
    found = Places(cast("Any", fleet), lambda: inventory)
    found.plans = lambda: plans
    return found


def broken(inventory: Inventory, index: int) -> Inventory:
    sick = replace(inventory.gpus[index], health=Health(recovery_action="reset"))
    return replace(inventory, gpus=(*inventory.gpus[:index], sick, *inventory.gpus[index + 1 :]))


def test_a_sleeper_may_wake_where_nobody_is_in_its_way() -> None:
    """Halves go together; a whole GPU that another runs on, or has not left yet, does not."""
    for others, plan, free in (
        ("sleeps", WHOLE, True),
        ("lingers", WHOLE, False),
        ("runs", WHOLE, False),
        ("runs", HALF, True),
    ):
        found = places(Fleet(a="sleeps", b=others), {"a": HALF, "b": plan})
        assert found.free("a") == free, (others, plan)
    assert places(Fleet(), {}).free("unknown")


def test_a_sleeper_is_not_moved_and_does_not_wake_on_a_broken_gpu() -> None:
    """One of its two broke and another runs on the sound one: it stays what it is, and is planned anew when called."""
    plans = {"a": PAIR, "b": WHOLE}
    found = places(Fleet(a="sleeps", b="runs"), plans, broken(SOUND, 1))
    assert found.gpu_groups("a", PAIR, 2) == PAIR.gpus
    alone = places(Fleet(a="sleeps"), {"a": PAIR}, broken(SOUND, 1))
    assert not alone.free("a")
    awake = places(Fleet(a="runs"), {"a": PAIR}, broken(SOUND, 1))
    assert awake.gpu_groups("a", PAIR, 2) == (("GPU-0",), ("GPU-2",))


def test_what_lingers_is_ended_before_another_starts_and_who_runs_is_not() -> None:
    """By its GPUs, and by shares."""
    fleet = Fleet(a="lingers", b="lingers", c="lingers")
    elsewhere = replace(WHOLE, gpus=(("GPU-2",),))
    found = places(fleet, {"a": WHOLE, "b": elsewhere, "c": replace(HALF, gpus=(("GPU-1",),))})
    assert asyncio.run(found.vacated("new", PAIR))
    assert fleet.does == {"a": "sleeps", "b": "lingers", "c": "sleeps"}
    fleet.does["a"] = "runs"
    assert not asyncio.run(found.vacated("new", PAIR))
    assert found.running("new") == {"a": WHOLE}
    assert found.asleep("new").keys() == {"b", "c"}

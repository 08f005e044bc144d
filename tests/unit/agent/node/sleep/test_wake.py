"""Who is woken where, and what happens while others are in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pareta_agent.clock import SystemClock
from pareta_agent.contract.fleet_view import EndpointStatus, EndpointView, FleetView
from pareta_agent.engine.fleet_context import Changed
from pareta_agent.node.sleep.wake import Activator


class Node:
    """One endpoint, another engine that may be where it was, and what the waker asked for."""

    def __init__(self, status: EndpointStatus = "cold", *, neighbours: set[str] | None = None) -> None:
        self.status = status
        self.neighbours = neighbours or set()
        self.asked: list[str] = []
        self._changed = Changed()

    def view(self) -> FleetView:
        return FleetView({"ep_a": EndpointView("ep_a", "org", "task", "alias-1", self.status)})

    def wake(self, endpoint: str) -> None:
        self.asked.append(f"wake {endpoint}")

    @property
    def revision(self) -> int:
        return self._changed.revision

    async def changed(self, since: int) -> int:
        return await self._changed.since(since)

    def free(self, engine: str) -> bool:
        return not self.neighbours

    def running(self, but: str) -> dict[str, None]:
        return dict.fromkeys(self.neighbours)

    async def deploy(self, endpoint: str) -> None:
        self.asked.append(f"deploy {endpoint}")
        if not self.neighbours:
            self.status = "live"

    def change(self, *neighbours: str) -> None:
        self.neighbours = set(neighbours)
        self._changed()


def run(node: Node, act: Callable[[Activator], Awaitable[None]], patience_s: float = 20.0) -> list[str]:
    async def acted() -> None:
        waker = Activator(cast("Any", node), cast("Any", node), node.deploy, patience_s, SystemClock())
        await act(waker)
        await waker.close()

    asyncio.run(acted())
    return node.asked


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_sleeps_wakes_where_it_was() -> None:
    """At once, before anything else can happen; what is awake, or unknown, is left as it is."""

    async def act(waker: Activator) -> None:
        waker.wake("ep_a")
        waker.wake("ep_unknown")

    assert run(Node(), act) == ["wake ep_a"]
    assert run(Node("live"), act) == []
    assert run(Node("failed"), act) == []


def test_many_calls_ask_once_and_again_when_another_engine_leaves() -> None:
    """One that only comes makes no room; a place that is found ends it."""
    node = Node(neighbours={"ep_b"})

    async def act(waker: Activator) -> None:
        for _ in range(5):
            waker.wake("ep_a")
        await turns()
        assert node.asked == ["deploy ep_a"]
        node.change("ep_b", "ep_c")
        await turns()
        assert node.asked == ["deploy ep_a"]
        node.change()
        await turns()

    assert run(node, act) == ["deploy ep_a"] * 2
    assert node.status == "live"


def test_nobody_waits_for_ever() -> None:
    """When no call can be waiting any more the next one asks anew."""
    node = Node(neighbours={"ep_b"})

    async def act(waker: Activator) -> None:
        for _ in range(2):
            waker.wake("ep_a")
            await asyncio.sleep(0.05)

    assert run(node, act, patience_s=0.01) == ["deploy ep_a"] * 2

"""Activator: wakes a sleeping endpoint on its first request, on its previous GPUs if free, otherwise on GPUs that fit.

Without a placement, tries again whenever another engine leaves, as long as a call may be waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pareta_agent.clock import Clock
from pareta_agent.engine.fleet import Fleet
from pareta_agent.node.deployment.placement import Places


class Activator:
    """`deploy` plans and starts an endpoint; `patience_s` is the maximum wait of a call."""

    def __init__(
        self,
        fleet: Fleet,
        places: Places,
        deploy: Callable[[str], Awaitable[None]],
        patience_s: float,
        clock: Clock,
    ) -> None:
        self._fleet, self._places, self._deploy = fleet, places, deploy
        self._patience_s, self._clock = patience_s, clock
        self._until_s: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def wake(self, endpoint: str) -> None:
        """Wakes the endpoint of a call; ignores an endpoint that is not asleep."""
        view = self._fleet.view().endpoints.get(endpoint)
        if view is None or view.status != "cold":
            return
        if self._places.free(view.runs_on):
            self._fleet.wake(endpoint)
            return
        self._until_s[endpoint] = self._clock.mono_s() + self._patience_s
        if endpoint not in self._tasks:
            task = self._tasks[endpoint] = asyncio.create_task(self._elsewhere(endpoint, view.runs_on))
            task.add_done_callback(lambda _done: self._tasks.pop(endpoint))

    async def close(self) -> None:
        for task in (tasks := list(self._tasks.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _elsewhere(self, endpoint: str, engine: str) -> None:
        while self._sleeps(endpoint) and (left_s := self._until_s[endpoint] - self._clock.mono_s()) > 0:
            revision, before = self._fleet.revision, self._places.running(but=engine).keys()
            await self._deploy(endpoint)
            try:
                async with asyncio.timeout(left_s):
                    while self._sleeps(endpoint) and before <= self._places.running(but=engine).keys():
                        revision = await self._fleet.changed(revision)
            except TimeoutError:
                continue

    def _sleeps(self, endpoint: str) -> bool:
        view = self._fleet.view().endpoints.get(endpoint)
        return view is not None and view.status == "cold"

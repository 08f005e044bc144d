"""Plan queries: answers the plane's questions to this node's planner, in one task.

A question: does this task and alias fit on the node now? The planner decides; no answer starts an engine.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from pareta_agent.backoff import FULL_JITTER, Backoff
from pareta_agent.clock import Clock
from pareta_agent.contract import wire
from pareta_agent.errors import PlaneError

WAIT_S = 25.0
RETRY = Backoff(first_s=2.0, cap_s=60.0, jitter=FULL_JITTER)


class PlanQueryClient(Protocol):
    """The two calls of the plane's client that carry questions and verdicts."""

    async def questions(self, wait_s: float) -> list[wire.PlanQuestion]: ...

    async def verdict(self, body: wire.PlanVerdict) -> None: ...


class PlanAnswers:
    def __init__(
        self,
        plane: PlanQueryClient,
        judge: Callable[[wire.PlanQuestion], Awaitable[wire.PlanVerdict]],
        clock: Clock,
    ) -> None:
        self._plane, self._judge, self._clock = plane, judge, clock

    async def run(self) -> None:
        """Runs until cancelled. Retries an unreachable plane, or a plane without plan queries, with growing delays."""
        failures = 0
        while True:
            try:
                for question in await self._plane.questions(WAIT_S):
                    await self._plane.verdict(await self._judge(question))
                failures = 0
            except PlaneError:
                failures += 1
                await self._clock.sleep(RETRY.delay_s(failures, random.random()))

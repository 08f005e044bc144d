"""Controller: long-polls the desired state, reconciles, and applies each action, in one task.

`reconcile` decides; the deployer and the fleet start engines.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from pareta_agent.backoff import FULL_JITTER, Backoff
from pareta_agent.clock import Clock
from pareta_agent.control.reconcile import Action, Deploy, Forget, Stop, Wanted, reconcile
from pareta_agent.errors import AgentError, PlaneError
from pareta_agent.telemetry.events import Emit, Event

POLL_S = 30.0
RETRY = Backoff(first_s=2.0, cap_s=60.0, jitter=FULL_JITTER)


class DesiredSource(Protocol):
    """The whole desired state and its revision: at once for a revision other than `revision`, else after at most
    `wait_s` seconds.
    """

    async def __call__(self, revision: int, wait_s: float) -> tuple[int, Sequence[Wanted]]: ...


class ActionExecutor(Protocol):
    """Applies actions. Each method is idempotent and returns when the work is under way, not when it ends.

    `expect` receives the whole desired state before its actions. `begin` ends the engines of an earlier agent, except
    those of the `running` endpoints. `done` repeats that after the actions; from then on every unknown endpoint is
    refused.
    """

    def expect(self, wanted: Sequence[Wanted]) -> None: ...
    async def begin(self, running: frozenset[str]) -> None: ...
    async def done(self, running: frozenset[str]) -> None: ...
    async def deploy(self, wanted: Wanted) -> None: ...
    async def stop(self, wanted: Wanted) -> None: ...
    async def forget(self, endpoint: str) -> None: ...


class Controller:
    def __init__(self, desired: DesiredSource, executor: ActionExecutor, clock: Clock, emit: Emit) -> None:
        self._desired, self._executor = desired, executor
        self._clock, self._emit = clock, emit
        self._acting = asyncio.Lock()
        self._acted: dict[str, Wanted] = {}
        self._failures: dict[str, AgentError] = {}
        self.revision = 0

    @property
    def wanted(self) -> Mapping[str, Wanted]:
        """The desired state that was applied last, by endpoint id."""
        return self._acted

    @property
    def failures(self) -> Mapping[str, AgentError]:
        """Endpoints whose deployment was refused, with the error, by endpoint id."""
        return self._failures

    async def run(self) -> None:
        """Runs until cancelled. An unreachable plane costs delay only: running engines continue."""
        failures = 0
        while True:
            try:
                revision, wanted = await self._desired(self.revision, POLL_S)
            except PlaneError as error:
                failures += 1
                self._emit(Event("desired_unknown", "warning", {"code": error.code, "reason": error.message}))
                await self._clock.sleep(RETRY.delay_s(failures, random.random()))
                continue
            failures = 0
            await self.apply(wanted)
            self.revision = revision

    async def apply(self, wanted: Sequence[Wanted]) -> None:
        """Applies the difference between `wanted`, the whole desired state, and the state that was applied before.

        An earlier agent's engines outside the desired state end before any planning. Engines that were not adopted
        end afterwards.
        """
        running = frozenset(entry.id for entry in wanted if entry.state == "running")
        async with self._acting:
            self._executor.expect(wanted)
            await self._executor.begin(running)
            for action in reconcile(wanted, self._acted):
                await self._act(action)
            await self._executor.done(running - self._failures.keys())

    async def between(self, act: Callable[[], Awaitable[list[str]]]) -> list[str]:
        """Runs `act` while no other action runs; returns its result."""
        async with self._acting:
            return await act()

    def forget(self) -> None:
        """Marks every action as not applied: the next run applies all of them."""
        self._acted.clear()
        self._failures.clear()
        self.revision = 0

    async def again(self, endpoint: str) -> None:
        """Deploys this endpoint again because its devices are gone. Without effect unless its desired state is
        `running`.
        """
        async with self._acting:
            wanted = self._acted.get(endpoint)
            if wanted is not None and wanted.state == "running":
                await self._deploy(wanted)

    async def _act(self, action: Action) -> None:
        match action:
            case Forget(endpoint):
                del self._acted[endpoint]
                self._failures.pop(endpoint, None)
                await self._executor.forget(endpoint)
            case Stop(wanted):
                self._acted[wanted.id] = wanted
                await self._executor.stop(wanted)
            case Deploy(wanted):
                self._acted[wanted.id] = wanted
                await self._deploy(wanted)

    async def _deploy(self, wanted: Wanted) -> None:
        self._failures.pop(wanted.id, None)
        try:
            await self._executor.deploy(wanted)
        except AgentError as error:
            self._failures[wanted.id] = error
            fields = {
                "endpoint": wanted.id,
                "code": error.code,
                "reason": error.message,
                "remedy": error.remedy,
            }
            self._emit(Event("deploy_refused", "error", fields))

"""Standby pool: keeps standbys warm for the next starts.

A start takes a warm standby, or waits for a warming standby: either beats a plain launch, which imports everything in
each process. Where a standby is unsafe, or fails, the start is a plain launch.
"""

from __future__ import annotations

import asyncio
import contextlib

from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.standby.standby import Standby, suits, warm_up
from pareta_agent.planning.plan import Plan
from pareta_agent.telemetry.events import Emit, Event

_FAILURES_ALLOWED = 3


class StandbyPool:
    """Keeps `settings.standby` warm while no engine starts; `take` removes a standby for a start."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._waiting: list[Standby] = []
        self._failures = 0
        self._starting = 0
        self._refilling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def ready(self) -> int:
        """Standbys that are warm and unclaimed."""
        return sum(standby.warm for standby in self._alive())

    async def warm(self, settings: EngineSettings, plan: Plan) -> None:
        """Begins to warm a standby for a coming start, with imports during the fetch of the weights."""
        if self._may(settings, plan) and not self._alive():
            with contextlib.suppress(OSError):
                self._waiting.append(await self._warm_up(settings, plan))

    async def take(self, settings: EngineSettings, plan: Plan) -> Standby | None:
        """A warm standby, after a wait for a warming standby; None where a plain launch is the way."""
        if not self._may(settings, plan):
            return None
        standby = None
        try:
            waiting = self._alive()
            standby = waiting[0] if waiting else await self._warm_up(settings, plan)
            if standby in self._waiting:
                self._waiting.remove(standby)
            said = await standby.ready()
        except (OSError, ValueError) as error:
            self.failed(str(error) or type(error).__name__)
            if standby:
                await standby.discard()
            return None
        except asyncio.CancelledError:
            if standby:
                await asyncio.shield(standby.discard())
            raise
        self._failures = 0
        self._emit(Event("standby_taken", "debug", {"memory_bytes": said.get("memory_bytes")}))
        return standby

    def failed(self, reason: str) -> None:
        """Records an unusable standby, now gone: the start is a plain launch."""
        self._failures += 1
        self._emit(Event("standby_failed", "warning", {"reason": reason}))

    def start_begins(self) -> None:
        """While engines start, the cores are theirs: nothing is warmed."""
        self._starting += 1

    def start_ended(self, settings: EngineSettings, plan: Plan) -> None:
        self._starting -= 1
        if self._starting == 0 and self._may(settings, plan) and not self._refilling:
            self._refilling = asyncio.create_task(self._refill(settings, plan))

    async def close(self) -> None:
        self._closed = True
        await self.leave()

    async def leave(self) -> None:
        """Ends the idle standbys; the next start may warm new standbys."""
        if self._refilling:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)
        await asyncio.gather(*(standby.discard() for standby in self._waiting))
        self._waiting.clear()

    def _may(self, settings: EngineSettings, plan: Plan) -> bool:
        return not self._closed and self._failures < _FAILURES_ALLOWED and suits(settings, plan) is None

    def _alive(self) -> list[Standby]:
        return [standby for standby in self._waiting if standby.alive]

    async def _refill(self, settings: EngineSettings, plan: Plan) -> None:
        try:
            while (
                self._starting == 0
                and len(self._alive()) < settings.standby
                and self._failures < _FAILURES_ALLOWED
            ):
                standby = await self._warm_up(settings, plan)
                self._waiting.append(standby)
                said = await standby.ready()
                fields = {"preload_s": said.get("preload_s"), "memory_bytes": said.get("memory_bytes")}
                self._emit(Event("standby_ready", "info", fields))
        except (OSError, ValueError) as error:
            self.failed(str(error) or type(error).__name__)
        finally:
            self._refilling = None

    async def _warm_up(self, settings: EngineSettings, plan: Plan) -> Standby:
        for dead in [standby for standby in self._waiting if not standby.alive]:
            self._waiting.remove(dead)
            await dead.discard()
        return await warm_up(settings, plan.platform)

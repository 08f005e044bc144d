"""Sleeping: puts an engine to sleep and wakes the engine until the canary passes, for two states of the replica.

Asleep, an engine keeps process and weights in the host's memory. The replica ends an engine that does not fall asleep,
or wakes up wrong, as after any other failure.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pareta_agent.engine.process import gpu_memory
from pareta_agent.engine.process.engine_process import EngineProcess, cancel
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica.lifecycle import ReplicaEvent
from pareta_agent.engine.replica.start import EngineStart, Outcome, Starter
from pareta_agent.engine.replica.start_phases import PhaseClock
from pareta_agent.telemetry.events import Emit, Event


class SleepSwitch:
    """The desired sleep of an engine: a level that other components set, and that the owner waits for."""

    def __init__(self) -> None:
        self.wanted = False
        self._changed = asyncio.Event()

    def set(self, wanted: bool) -> None:
        self.wanted = wanted
        self._changed.set()

    async def until(self, wanted: bool) -> None:
        while self.wanted != wanted:
            self._changed.clear()
            await self._changed.wait()


class Sleeping:
    """`start` has brought up an engine that can sleep."""

    def __init__(self, starter: Starter, start: EngineStart, sleep_switch: SleepSwitch, emit: Emit) -> None:
        self._starter, self._start, self._sleep_switch, self._emit = starter, start, sleep_switch, emit
        self._limit_s = starter.settings.limits.load_s

    @property
    def _engine(self) -> EngineProcess:
        assert self._start.engine is not None
        return self._start.engine

    async def sleep(self) -> Outcome:
        """(WAKE, …) when sleep is no longer desired, or (FAILED | EXITED, why)."""
        begun_s = self._starter.clock.mono_s()
        exited = asyncio.ensure_future(self._engine.wait())
        asleep = asyncio.ensure_future(self._start.fell_asleep(self._limit_s))
        over = asyncio.ensure_future(self._sleep_switch.until(False))
        try:
            await asyncio.wait({exited, asleep}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                if not asleep.result():
                    return ReplicaEvent.FAILED, exit_reasons.NOT_ASLEEP
                await self._tell(self._starter.clock.mono_s() - begun_s)
                await asyncio.wait({exited, over}, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return self._start.ended(exited.result())
            return ReplicaEvent.WAKE, exit_reasons.STOPPED
        finally:
            await cancel(exited, asleep, over)

    async def wake(self, phases: PhaseClock) -> Outcome:
        """(PASSED, …) once awake with correct answers, or (FAILED | EXITED | HUNG, why)."""
        phases.begin("load")
        exited = asyncio.ensure_future(self._engine.wait())
        awake = asyncio.ensure_future(self._start.woke_up(self._limit_s))
        try:
            await asyncio.wait({exited, awake}, timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return self._start.ended(exited.result())
            if not awake.done():
                return ReplicaEvent.HUNG, exit_reasons.of_hang("load", self._limit_s, [])
            if not awake.result():
                return ReplicaEvent.FAILED, exit_reasons.NOT_WOKEN
            phases.begin("probe")
            event, exit_reason = await self._start.canaries(exited)
            # the same weights loaded anew may well be right
            return event, replace(exit_reason, permanent=False)
        finally:
            await cancel(exited, awake)

    async def _tell(self, seconds: float) -> None:
        """Emits the GPU memory that the engine still holds, for readers of the node's memory."""
        before = self._start.gpu_baseline
        seen = await asyncio.to_thread(self._starter.read_gpus) if before else ()
        now = gpu_memory.free_by_uuid(seen, tuple(before))
        kept = sum(max(0, before[uuid] - free) for uuid, free in now.items())
        fields = {"replica": self._starter.name, "seconds": round(seconds, 3), "gpu_kept_bytes": kept}
        self._emit(Event("engine_slept", "info", fields))

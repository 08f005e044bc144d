"""Replica: runs an engine's single life in one task: fetch, start, prove, serve, drain, end.

The state decides which activity runs; the activity's outcome, or a posted event, decides the next state (`lifecycle`).
A replica never restarts: restarts are `slot`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from pareta_agent.clock import Clock
from pareta_agent.engine.process import gpu_memory, page_cache
from pareta_agent.engine.process.engine_process import EngineProcess, cancel, first
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica.exit_reason import ExitReason
from pareta_agent.engine.replica.lifecycle import ReplicaEvent, ReplicaState, advance
from pareta_agent.engine.replica.serving import Serving
from pareta_agent.engine.replica.sleeping import Sleeping, SleepSwitch
from pareta_agent.engine.replica.start import EngineStart, Starter
from pareta_agent.engine.replica.start_phases import Cause, ColdStartReport, OnColdStart, PhaseClock
from pareta_agent.engine.spec import EngineSettings, EngineSpec
from pareta_agent.engine.vllm.log_lines import StartMeasures
from pareta_agent.telemetry.events import Emit, Event

Drain = Callable[[], Awaitable[None]]
_TERM_GRACE_S = 5.0


class Replica:
    """`run` lives the life and returns the exit reason; `post` sends an event; the rest may be read at any time."""

    def __init__(
        self,
        spec: EngineSpec,
        starter: Starter,
        settings: EngineSettings,
        clock: Clock,
        emit: Emit,
        on_change: Callable[[], None],
        on_cold_start: OnColdStart,
        in_flight: Callable[[str], int],
        cause: Cause,
        sleep_switch: SleepSwitch,
    ) -> None:
        self.spec = spec
        self.state = ReplicaState.PENDING
        self.exit_reason = exit_reasons.STOPPED
        self.measures = StartMeasures()
        self.ready_at_s: float | None = None
        self.slept_badly = False
        self.late_events = 0
        self.drain: Drain | None = None
        self.drain_s = settings.drain_s
        self.phases = PhaseClock(spec.endpoint, clock, emit)
        self.starter = starter
        self._settings = settings
        self._clock = clock
        self._emit = emit
        self._on_change = on_change
        self._on_cold_start = on_cold_start
        self._in_flight = in_flight
        self._cause = cause
        self._sleep_switch = sleep_switch
        self._mail: deque[ReplicaEvent] = deque()
        self._mailed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._weights = Path()
        self._start: EngineStart | None = None
        self._reported = False
        self._stop_by_s = 0.0
        self._left = False
        self._activities: dict[ReplicaState, Callable[[], Coroutine[Any, Any, ReplicaEvent]]] = {
            ReplicaState.PENDING: self._begin,
            ReplicaState.FETCHING: self._fetch,
            ReplicaState.STARTING: self._bring_up,
            ReplicaState.READY: self._serve,
            ReplicaState.ASLEEP: self._sleep,
            ReplicaState.WAKING: self._wake,
            ReplicaState.DRAINING: self._drain,
            ReplicaState.STOPPING: self._stop,
        }

    def post(self, event: ReplicaEvent) -> None:
        """Posts an event to the owner task; the table decides the move."""
        if event is ReplicaEvent.KILL:
            self._hurry.set()
        self._mail.append(event)
        self._mailed.set()

    async def leave(self) -> None:
        """Call before a cancel of `run`: a serving engine runs on; a starting engine ends here."""
        self._left = self.state in (ReplicaState.READY, ReplicaState.ASLEEP, ReplicaState.DRAINING)
        if self._start is not None and not self._left and (engine := await self._start.settled()):
            engine.kill()

    async def run(self) -> ExitReason:
        """Lives until ENDED. A cancel ends the engine's group and raises, unless `leave` came before."""
        try:
            while self.state is not ReplicaState.ENDED:
                event = await self._next_event(self._activities[self.state])
                if not (event is ReplicaEvent.SLEEP and self._called()):
                    self._move(event)
        finally:
            if self.state is not ReplicaState.ENDED and not self._left and (engine := self._engine):
                engine.kill()
        if not self._reported:
            self._report("stopped" if self.exit_reason.wanted else "failed")
        return self.exit_reason

    @property
    def warm(self) -> bool:
        """True for an engine from a standby."""
        return self._start is not None and self._start.warm

    @property
    def sleeps(self) -> bool:
        """True while the engine serves and can sleep with weights in the host's memory."""
        return self.state is ReplicaState.READY and self._engine is not None and self._engine.intent.sleeps

    @property
    def _engine(self) -> EngineProcess | None:
        return self._start.engine if self._start else None

    def _called(self) -> bool:
        """True while the replica serves and is desired again after an idle finding: calls may arrive until the move."""
        wanted = not self._sleep_switch.wanted or bool(self._in_flight(self.starter.name))
        return self.state is ReplicaState.READY and wanted

    def _move(self, event: ReplicaEvent) -> None:
        state = advance(self.state, event)
        if state is None:
            self.late_events += 1
            return
        moved = {"replica": self.starter.name, "event": event.value, "state": state.value}
        self._emit(Event("replica_moved", "debug", moved))
        self.state = state
        self._on_change()

    async def _next_event(self, activity: Callable[[], Coroutine[Any, Any, ReplicaEvent]]) -> ReplicaEvent:
        """The first event that moves: what the activity found, or what was posted meanwhile."""
        task = asyncio.create_task(self._guarded(activity))
        try:
            while True:
                while self._mail:
                    event = self._mail.popleft()
                    if advance(self.state, event) is not None:
                        return event
                    self.late_events += 1
                self._mailed.clear()
                mailed = asyncio.create_task(self._mailed.wait())
                await asyncio.wait({task, mailed}, return_when=asyncio.FIRST_COMPLETED)
                mailed.cancel()
                if task.done():
                    return task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _guarded(self, activity: Callable[[], Coroutine[Any, Any, ReplicaEvent]]) -> ReplicaEvent:
        during = self.state
        try:
            return await activity()
        except Exception as error:
            if during is ReplicaState.STOPPING:
                raise
            self.exit_reason = exit_reasons.of_error(error, during=f"the engine's {during.value} step")
            return ReplicaEvent.FAILED

    async def _begin(self) -> ReplicaEvent:
        return ReplicaEvent.BEGIN

    async def _fetch(self) -> ReplicaEvent:
        def progress(phase: str, done: int, total: int | None) -> None:
            self.phases.begin(phase)
            self.phases.progress(done, total)

        self.phases.begin("fetch")
        await self.starter.pool.warm(self._settings, self.spec.plan)
        self._weights = await self.spec.fetch(progress)
        return ReplicaEvent.FETCHED

    async def _bring_up(self) -> ReplicaEvent:
        self._start = self.starter.start(self._weights, self.phases)
        pool = self.starter.pool
        pool.start_begins()
        reading = asyncio.ensure_future(self._read_ahead())
        try:
            event = await self._judged(*await self._start.run())
        finally:
            await cancel(reading)
            pool.start_ended(self._settings, self.spec.plan)
        self.measures = self._start.measures
        if event in (ReplicaEvent.PASSED, ReplicaEvent.SLEEP):
            self.ready_at_s = self._clock.mono_s()
            self._report("ready" if event is ReplicaEvent.PASSED else "asleep")
        return event

    async def _read_ahead(self) -> None:
        if self._settings.read_ahead and self.starter.adopted is None:
            read_bytes = await page_cache.read_ahead(self._weights)
            self._emit(
                Event("weights_read_ahead", "debug", {"replica": self.starter.name, "bytes": read_bytes})
            )

    async def _serve(self) -> ReplicaEvent:
        assert self._start is not None
        serving = Serving(self.starter, self._start, self._sleep_switch, self._in_flight, self._emit)
        return await self._judged(*await serving.run())

    async def _sleep(self) -> ReplicaEvent:
        self.slept_badly = True
        event = await self._judged(*await self._sleeping().sleep())
        self.slept_badly = event is not ReplicaEvent.WAKE
        return event

    async def _wake(self) -> ReplicaEvent:
        self._cause, self._reported, self.slept_badly = "resume", False, True
        self.phases = PhaseClock(self.spec.endpoint, self._clock, self._emit)
        event = await self._judged(*await self._sleeping().wake(self.phases))
        self.slept_badly = event is not ReplicaEvent.PASSED
        if event is ReplicaEvent.PASSED:
            self.ready_at_s = self._clock.mono_s()
            self._report("ready")
        return event

    def _sleeping(self) -> Sleeping:
        assert self._start is not None
        return Sleeping(self.starter, self._start, self._sleep_switch, self._emit)

    async def _judged(self, event: ReplicaEvent, exit_reason: ExitReason) -> ReplicaEvent:
        if event in (ReplicaEvent.FAILED, ReplicaEvent.EXITED, ReplicaEvent.HUNG):
            self.exit_reason = await self._explained(event, exit_reason)
        return event

    async def _explained(self, event: ReplicaEvent, exit_reason: ExitReason) -> ExitReason:
        """Adds the engine's stacks to a hang's reason; the dump may end the engine, which is about to be killed."""
        if event is not ReplicaEvent.HUNG or (engine := self._engine) is None:
            return exit_reason
        return replace(exit_reason, stacks=await engine.stacks(self._settings.python))

    async def _drain(self) -> ReplicaEvent:
        """Waits for requests in flight, at most `drain_s`; an engine that dies meanwhile was stopping anyway."""
        assert self._engine is not None
        self._stop_by_s = self._clock.mono_s() + self.drain_s
        if self.drain is not None:
            await first(self._engine.wait(), self.drain(), timeout_s=self.drain_s)
        return ReplicaEvent.DRAINED

    async def _stop(self) -> ReplicaEvent:
        engine = await self._start.settled() if self._start is not None else None
        if engine is None:
            self.starter.run_dir.sweep()
            return ReplicaEvent.GONE
        served = self.ready_at_s is not None and self.exit_reason.wanted and not self._hurry.is_set()
        term_s = max(0.0, self._stop_by_s - self._clock.mono_s()) + _TERM_GRACE_S if served else 0.0
        if not await engine.stop(term_s=term_s, hurry=self._hurry):
            survived = {"replica": self.starter.name, "pid": engine.pid}
            self._emit(Event("engine_survived_kill", "error", survived))
        baseline = self._start.gpu_baseline if self._start else {}
        await gpu_memory.confirm_released(self.starter.read_gpus, baseline, self._clock, self._emit)
        return ReplicaEvent.GONE

    def _report(self, outcome: str) -> None:
        """Reports each start once; an earlier agent has reported adopted engines."""
        self._reported = True
        failed = outcome == "failed"
        self.phases.end(
            "done" if outcome in ("ready", "asleep") else "failed", self.exit_reason.reason if failed else ""
        )
        if self.starter.adopted is not None and self._cause != "resume":
            seconds = round(self.phases.total_s, 3)
            fields = {"replica": self.starter.name, "outcome": outcome, "seconds": seconds}
            self._emit(Event("engine_adopted", "info", fields))
            return
        self._on_cold_start(
            ColdStartReport(
                self.spec.endpoint,
                self.starter.name,
                self.starter.generation,
                self._cause,
                self.phases.spent(),
                self.phases.total_s,
                outcome,  # type: ignore[arg-type]
                self.exit_reason.reason if failed else None,
                self.measures,
                self.warm,
                self.exit_reason.code if failed else None,
            )
        )

"""Start phases: times the phases of a cold start, emits each phase as an event, and a report at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pareta_agent.clock import Clock
from pareta_agent.engine.vllm.log_lines import StartMeasures
from pareta_agent.telemetry.events import Emit, Phase

Cause = Literal["deploy", "start", "restart", "wake", "replan", "resume"]
"""`wake` starts anew what sleep had ended; `resume` wakes an engine that slept with its weights in host memory."""


@dataclass(frozen=True, slots=True)
class ColdStartReport:
    """The start of an engine, reported exactly once. `reason` is safe for any reader, `code` names a failure;
    `measures` are the start's findings.
    """

    endpoint: str
    replica: str
    generation: int
    cause: Cause
    phases: Mapping[str, float]
    total_s: float
    outcome: Literal["ready", "failed", "stopped"]
    reason: str | None
    measures: StartMeasures
    standby: bool = False
    code: str | None = None


OnColdStart = Callable[[ColdStartReport], None]


class PhaseClock:
    """Times the phases of a start. `moved_s` is the time of the last move, by which a hang is judged; `detail` is
    emitted at the end of the current phase.
    """

    def __init__(self, endpoint: str, clock: Clock, emit: Emit) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._emit = emit
        self.begun_s = self.moved_s = clock.mono_s()
        self._since_s = self.begun_s
        self._spent: dict[str, float] = {}
        self.current: str | None = None
        self.detail = ""

    def begin(self, phase: str) -> None:
        """Ends the current phase and begins `phase`; the same phase again is only a sign of life."""
        self.touch()
        if phase != self.current:
            self.end("done", self.detail)
            self.current = phase
            self._emit(Phase(self._endpoint, phase, "started"))

    def progress(self, done: int, total: int | None, unit: str = "bytes") -> None:
        self.touch()
        if self.current:
            self._emit(Phase(self._endpoint, self.current, "progress", None, done, total, unit))

    def touch(self) -> None:
        self.moved_s = self._clock.mono_s()

    def end(self, state: Literal["done", "failed"], detail: str = "") -> None:
        if self.current is None:
            return
        now_s = self._clock.mono_s()
        self._spent[self.current] = self._spent.get(self.current, 0.0) + now_s - self._since_s
        self._emit(Phase(self._endpoint, self.current, state, self._spent[self.current], detail=detail))
        self.current, self.detail = None, ""
        self._since_s = now_s

    def spent(self) -> dict[str, float]:
        """Seconds by phase so far, the current phase included."""
        spent = dict(self._spent)
        if self.current:
            spent[self.current] = spent.get(self.current, 0.0) + self._clock.mono_s() - self._since_s
        return spent

    @property
    def total_s(self) -> float:
        return self._clock.mono_s() - self.begun_s

"""Watchdog: ends a serving engine that makes no tokens. Health answers 200 over a frozen core, so tokens are watched.

With requests in flight, the token counters must move within a limit; an idle engine receives a canary at intervals.
Slow work is never cut. A compiler among the processes counts as work, up to a separate limit. Tokens also stand still
while a caller does not read. A canary moves the counters then, and is sent at half of the limit.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from pareta_agent.clock import Clock
from pareta_agent.engine.process.compilers import Stillness
from pareta_agent.engine.process.run_dir import RunDir
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica.exit_reason import ExitReason
from pareta_agent.engine.replica.lifecycle import ReplicaEvent
from pareta_agent.engine.spec import EngineSettings, EngineSpec
from pareta_agent.engine.vllm import client
from pareta_agent.telemetry.events import Emit

_COUNTERS = re.compile(
    r"^vllm:(?:prompt_tokens_total|generation_tokens_total|iteration_tokens_total_count)\{[^}]*\} (\S+)",
    re.MULTILINE,
)
_WRONG_ANSWERS_ALLOWED = 1
_READ_TIMEOUT_S = 5.0


def counters(metrics: str | None) -> tuple[str, ...] | None:
    """The values that grow while an engine works; None when not reported."""
    return None if metrics is None else tuple(_COUNTERS.findall(metrics))


@dataclass(slots=True)
class TokenProgress:
    """Decides whether an engine hangs, from successive looks. Pure but for the stored looks."""

    limit_s: float
    stillness: Stillness
    moved_s: float
    last: tuple[str, ...] | None = None

    def hangs(
        self, now_s: float, seen: tuple[str, ...] | None, *, pending: bool, compiling: bool = False
    ) -> bool:
        """`pending`: something waits for tokens. An engine that cannot even be read has the same limit."""
        moved = seen is not None and (seen != self.last or not pending)
        if moved:
            self.moved_s, self.last = now_s, seen
        return self.stillness.seconds(now_s, self.moved_s, compiling=compiling) > self.limit_s


class Watchdog:
    """Watches a ready engine; `run` ends only with a reason to end the engine."""

    def __init__(
        self,
        spec: EngineSpec,
        run_dir: RunDir,
        settings: EngineSettings,
        clock: Clock,
        in_flight: Callable[[str], int],
        compiling: Callable[[], bool],
        emit: Emit,
    ) -> None:
        self._spec = spec
        self._run_dir = run_dir
        self._settings = settings
        self._clock = clock
        self._in_flight = in_flight
        self._compiling = compiling
        self._emit = emit
        self._asked_s = clock.mono_s()
        self._wrong = 0
        self._canary: asyncio.Task[client.CanaryAnswer] | None = None

    @property
    def asks(self) -> bool:
        """True while a canary's answer is outstanding."""
        return self._canary is not None

    async def run(self) -> tuple[ReplicaEvent, ExitReason]:
        limit_s = self._settings.progress_s
        progress = TokenProgress(limit_s, Stillness(self._settings.limits.compile_s), self._clock.mono_s())
        try:
            while True:
                await self._clock.sleep(max(0.1, min(5.0, limit_s / 6)))
                seen = counters(await client.metrics(self._run_dir.socket, min(_READ_TIMEOUT_S, limit_s)))
                busy = self._in_flight(self._run_dir.name) > 0
                still_s = self._clock.mono_s() - progress.moved_s
                if exit_reason := self._canary_failure(idle=not busy, doubted=busy and still_s > limit_s / 2):
                    return ReplicaEvent.FAILED, exit_reason
                pending = busy or self._canary is not None
                compiling = still_s > limit_s / 2 and await asyncio.to_thread(self._compiling)
                if progress.hangs(self._clock.mono_s(), seen, pending=pending, compiling=compiling):
                    return ReplicaEvent.HUNG, exit_reasons.of_stall(limit_s)
        finally:
            if self._canary:
                self._canary.cancel()

    def _canary_failure(self, *, idle: bool, doubted: bool) -> ExitReason | None:
        """Sends a canary when due; a wrong answer counts when repeated, silence is judged by progress."""
        if self._canary is None:
            due = self._clock.mono_s() - self._asked_s >= self._settings.idle_canary_s
            if (doubted or (idle and due)) and self._settings.canary and self._spec.canaries:
                self._asked_s = self._clock.mono_s()
                ask = client.send_canary(
                    self._run_dir.socket,
                    self._spec.endpoint,
                    self._spec.canaries[0],
                    4 * self._settings.progress_s,
                )
                self._canary = asyncio.create_task(ask)
            return None
        if not self._canary.done():
            return None
        answer, self._canary = self._canary.result(), None
        self._emit(answer.event(self._run_dir.name, self._run_dir.generation))
        if answer.passed or answer.text is None:
            self._wrong = 0
            return None
        self._wrong += 1
        if self._wrong <= _WRONG_ANSWERS_ALLOWED:
            self._asked_s = -self._settings.idle_canary_s  # due again at the next look
            return None
        return exit_reasons.of_canary(self._spec.canaries[0], answer, again=True)

"""Partial answers: counts the calls that each key leaves before the end, and reports keys that leave most calls.

A partial answer costs nothing by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from pareta_agent.clock import Clock
from pareta_agent.contract.usage_record import Outcome, UsageRecord
from pareta_agent.telemetry.events import Emit, Event
from pareta_agent.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class PartialAnswerSettings:
    """A key is reported if at least `least` of the key's calls ended within a window and `ratio` of these were left."""

    window_s: float = 300.0
    least: int = 20
    ratio: float = 0.5


class PartialAnswers:
    """Counts by key in consecutive windows; the gauge keeps the last whole window's number of keys."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        emit: Emit,
        settings: PartialAnswerSettings = PartialAnswerSettings(),
    ) -> None:
        self._metrics, self._clock, self._emit, self._settings = metrics, clock, emit, settings
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._until_s = clock.mono_s() + settings.window_s

    def count(self, record: UsageRecord) -> None:
        """Counts a request that ended."""
        counts = self._counts.setdefault((record.admission.org, record.admission.key_id), [0, 0])
        counts[0] += 1
        counts[1] += record.outcome is Outcome.PARTIAL_CLIENT

    def tick(self) -> None:
        """At the end of a window, emits an event for each reported key."""
        if self._clock.mono_s() < self._until_s:
            return
        self._until_s = self._clock.mono_s() + self._settings.window_s
        over = 0
        for (org, key_id), (ended, partial) in self._counts.items():
            if ended >= self._settings.least and partial >= self._settings.ratio * ended:
                over += 1
                fields = {"org": org, "key_id": key_id, "ended": ended, "partial": partial}
                self._emit(Event("partials_frequent", "warning", fields))
        self._metrics.set("pareta_keys_mostly_partial", over)
        self._counts.clear()

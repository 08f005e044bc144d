"""Fetch progress: counts the written and hashed bytes of an artifact, and reports them at most ten times a second."""

from __future__ import annotations

from typing import Literal

from pareta_agent.clock import Clock
from pareta_agent.weights.settings import OnProgress, WeightsProgress

_EVERY_S = 0.1


class Meter:
    """The totals of one artifact. Bytes left by an earlier attempt count from the moment of their discovery."""

    def __init__(self, total_bytes: int, clock: Clock, report: OnProgress, detail: str = "") -> None:
        self._total_bytes = total_bytes
        self._clock = clock
        self._report = report
        self._detail = detail
        self._fetched_bytes = 0
        self._hashed_bytes = 0
        self._reported_s = float("-inf")

    def restart(self, fetched_bytes: int, hashed_bytes: int) -> None:
        """Sets both counts: the bytes left by an earlier attempt, or the bytes that a second pass skips."""
        self._fetched_bytes, self._hashed_bytes = fetched_bytes, hashed_bytes
        self._advance("fetch", fetched_bytes)

    def fetched(self, count_bytes: int) -> None:
        self._fetched_bytes += count_bytes
        self._advance("fetch", self._fetched_bytes)

    def hashed(self, count_bytes: int) -> None:
        """Counts hashed bytes. Hashing runs along with fetching, and is reported once every byte is fetched."""
        self._hashed_bytes += count_bytes
        if self._fetched_bytes >= self._total_bytes:
            self._advance("verify", self._hashed_bytes)

    def _advance(self, phase: Literal["fetch", "verify"], done_bytes: int) -> None:
        now_s = self._clock.mono_s()
        if done_bytes >= self._total_bytes or now_s - self._reported_s >= _EVERY_S:
            self._reported_s = now_s
            self._report(WeightsProgress(phase, done_bytes, self._total_bytes, self._detail))

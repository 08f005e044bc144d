"""Sink counts: copies the counters of log sinks into the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pareta_agent.telemetry.metrics import Metrics


class Counting(Protocol):
    """`failures` and `dropped_lines` only grow."""

    name: str
    failures: int
    dropped_lines: int

    @property
    def waiting_bytes(self) -> int: ...


class SinkCounts:
    """`count` runs before each scrape. `prefix` distinguishes the sinks of the main process from the workers'."""

    def __init__(self, metrics: Metrics, sinks: Iterable[Counting], prefix: str = "") -> None:
        self._metrics, self._prefix = metrics, prefix
        self._sinks = list(sinks)
        self._seen: dict[tuple[str, str], int] = {}

    def add(self, sink: Counting) -> None:
        self._sinks.append(sink)

    def count(self) -> None:
        for sink in self._sinks:
            name = self._prefix + sink.name
            self._grow("pareta_sink_errors_total", name, sink.failures)
            self._grow("pareta_sink_dropped_lines_total", name, sink.dropped_lines)
            self._metrics.set("pareta_sink_waiting_bytes", sink.waiting_bytes, name)

    def _grow(self, series: str, sink: str, now: int) -> None:
        self._metrics.inc(series, sink, by=now - self._seen.get((series, sink), 0))
        self._seen[series, sink] = now

"""Metrics: counts and renders every declared series of the agent.

Names start with `pareta_`, units are base units, counters end in `_total`. Label values are ids and closed sets,
never a prompt, a key, a path or a weights id.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from pareta_agent.telemetry.series import TABLE, Series


class Metrics:
    """The registry of the series in `table`. Label values are in the declared order.

    Every request counts, so a count is a dict access and an addition. `prometheus_client` writes the exposition.
    """

    def __init__(self, table: Sequence[Series] = TABLE) -> None:
        self._declared = {series.name: series for series in table}
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}
        self._histograms: dict[tuple[str, tuple[str, ...]], _Histogram] = {}
        self._before_render: list[Callable[[], None]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for series in table:
            if not series.labels and series.kind != "histogram":
                self._values[series.name, ()] = 0.0

    def inc(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Adds to a counter or a gauge."""
        key = (name, labels)
        try:
            self._values[key] += by
        except KeyError:
            self._check(name, labels)
            self._values[key] = by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Sets a gauge."""
        self._check(name, labels)
        self._values[name, labels] = value

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Adds an observation to a histogram."""
        key = (name, labels)
        histogram = self._histograms.get(key)
        if histogram is None:
            self._check(name, labels)
            histogram = self._histograms[key] = _Histogram(self._declared[name].buckets)
        histogram.add(value)

    def take(self) -> list[Any]:
        """The growth of counters and histograms since the last call, for another registry's `add`."""
        counted = [
            (name, labels, by)
            for (name, labels), by in self._values.items()
            if by and self._declared[name].kind == "counter"
        ]
        for name, labels, _ in counted:
            self._values[name, labels] = 0.0
        observed = [(name, labels, h.counts, h.sum) for (name, labels), h in self._histograms.items()]
        self._histograms.clear()
        return [counted, observed] if counted or observed else []

    def add(self, taken: list[Any]) -> None:
        """Adds the growth that another process counted."""
        counted, observed = taken
        for name, labels, by in counted:
            self.inc(name, *labels, by=by)
        for name, labels, counts, total in observed:
            key = (name, tuple(labels))
            histogram = self._histograms.get(key)
            if histogram is None:
                histogram = self._histograms[key] = _Histogram(self._declared[name].buckets)
            histogram.merge(counts, total)

    def drop(self, name: str, *labels: str) -> None:
        """Removes a labelled child, such as a removed endpoint. An absent child is no error."""
        self._values.pop((name, labels), None)
        self._histograms.pop((name, labels), None)

    def before_render(self, update: Callable[[], None]) -> None:
        """Calls `update` before each scrape, to set gauges that are read, not counted."""
        self._before_render.append(update)

    def render(self) -> bytes:
        """The text exposition. A failed update is counted and affects only the series of that update."""
        for update in self._before_render:
            try:
                update()
            except Exception:
                self.inc("pareta_scrape_errors_total", "")
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """One family per declared series, for `prometheus_client`."""
        families = {
            name: _FAMILIES[s.kind](name, s.meaning, labels=s.labels) for name, s in self._declared.items()
        }
        for (name, labels), value in self._values.items():
            families[name].add_metric(labels, value)
        for (name, labels), histogram in self._histograms.items():
            families[name].add_metric(labels, histogram.buckets(), histogram.sum)
        yield from families.values()

    def _check(self, name: str, labels: tuple[str, ...]) -> None:
        if len(labels) != len(self._declared[name].labels):
            raise ValueError(f"{name} takes labels {self._declared[name].labels}, not {labels}")


class _Histogram:
    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def merge(self, counts: list[int], total: float) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.sum += total

    def buckets(self) -> list[tuple[str, int]]:
        """(upper bound, observations up to that bound); the last bound is +Inf."""
        bounds = (*self._bounds, math.inf)
        return [
            (("+Inf" if b == math.inf else str(b)), n)
            for b, n in zip(bounds, accumulate(self.counts), strict=True)
        ]


_FAMILIES: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}

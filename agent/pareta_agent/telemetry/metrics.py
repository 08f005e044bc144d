"""Every series the agent exposes, declared once: the table is what docs and tests check.

Names start with `pareta_`, units are base units, counters end in `_total`. Label values are ids and closed sets,
never a prompt, a key, a path or a weights id.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Series:
    """One declared series; `labels` in the order in which values are given."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


TABLE: Final[tuple[Series, ...]] = (
    Series("pareta_build_info", "gauge", "Always 1; the agent's version.", ("version",)),
    Series("pareta_ready", "gauge", "1 while the node is ready for new requests."),
    Series(
        "pareta_requests_total",
        "counter",
        "Answered requests; endpoint is empty when none was reached, outcome refused or replayed when not admitted.",
        ("endpoint", "route", "outcome", "code"),
    ),
    Series(
        "pareta_requests_quarantined_total",
        "counter",
        "Refusals of requests that were in flight when two engines ended.",
        ("endpoint",),
    ),
    Series("pareta_tokens_total", "counter", "Tokens of admitted requests by kind.", ("endpoint", "kind")),
    Series(
        "pareta_time_to_first_token_seconds",
        "histogram",
        "From admission to the first bytes of an answer that streams.",
        ("endpoint",),
        LATENCY_S,
    ),
    Series(
        "pareta_inter_token_seconds",
        "histogram",
        "Mean time between the output tokens of one streamed request.",
        ("endpoint",),
        TOKEN_S,
    ),
    Series(
        "pareta_request_duration_seconds",
        "histogram",
        "From admission to the end of the answer.",
        ("endpoint", "route"),
        LATENCY_S,
    ),
    Series("pareta_requests_in_flight", "gauge", "Admitted requests not yet ended.", ("endpoint",)),
    Series(
        "pareta_requests_held", "gauge", "Calls that wait for an endpoint to wake or start.", ("endpoint",)
    ),
    Series(
        "pareta_keys_mostly_partial",
        "gauge",
        "Keys whose callers left most of their answers midway, in the last five minutes that were counted.",
    ),
    Series("pareta_upstream_retries_total", "counter", "Requests sent to an engine again.", ("endpoint",)),
    Series("pareta_front_connections", "gauge", "Open connections of callers."),
    Series("pareta_front_workers", "gauge", "Front processes beside the main one that answer callers."),
    Series(
        "pareta_tls_expires_timestamp_seconds", "gauge", "When the port's certificate expires; 0 without one."
    ),
    Series("pareta_front_bad_http_total", "counter", "Connections refused for broken HTTP.", ("reason",)),
    Series(
        "pareta_sink_errors_total",
        "counter",
        "Writes to a sink that failed; each is tried again: stdout, stderr, those of workers (worker_…), systemd.",
        ("sink",),
    ),
    Series(
        "pareta_sink_dropped_lines_total",
        "counter",
        "Lines that were dropped, the oldest first, because 1 MiB waited for the sink.",
        ("sink",),
    ),
    Series("pareta_sink_waiting_bytes", "gauge", "Text that waits until the sink takes it.", ("sink",)),
    Series("pareta_scrape_errors_total", "counter", "Engines that did not answer a scrape.", ("endpoint",)),
    Series("pareta_endpoint_state", "gauge", "1 for the state an endpoint is in.", ("endpoint", "state")),
    Series("pareta_endpoint_replicas", "gauge", "Replicas that take requests.", ("endpoint",)),
    Series("pareta_asleep_weights_bytes", "gauge", "Host memory for the weights of engines that sleep."),
    Series(
        "pareta_cold_start_phase_seconds",
        "gauge",
        "How long each phase of the latest start took.",
        ("endpoint", "phase"),
    ),
    Series(
        "pareta_cold_starts_total", "counter", "Engine starts by cause.", ("endpoint", "cause", "outcome")
    ),
    Series("pareta_cold_start_seconds", "gauge", "The latest start of an endpoint, whole.", ("endpoint",)),
    Series(
        "pareta_cold_start_recent_seconds",
        "gauge",
        "What the last starts took, by cause: percentile 50 and 95.",
        ("cause", "percentile"),
    ),
    Series("pareta_engine_exits_total", "counter", "Engines that ended, by reason.", ("endpoint", "reason")),
    Series("pareta_spool_last_sequence", "gauge", "Newest sequence number in the spool."),
    Series("pareta_spool_acked_sequence", "gauge", "Newest sequence number that the plane acknowledged."),
    Series("pareta_spool_unacked_events", "gauge", "Events that the plane has not acknowledged."),
    Series("pareta_spool_open_requests", "gauge", "Admitted requests without a terminal record."),
    Series("pareta_spool_bytes", "gauge", "Size of the spool on disk."),
    Series("pareta_spool_used_ratio", "gauge", "Share of spool.max_bytes that is in use."),
    Series("pareta_metering", "gauge", "1 while usage can be recorded; otherwise nothing is admitted."),
    Series("pareta_spool_quarantined_events", "gauge", "Events that the plane refused for good."),
    Series(
        "pareta_usage_drift_tokens",
        "gauge",
        "Tokens that an endpoint's engines counted beyond its records, by kind.",
        ("endpoint", "kind"),
    ),
    Series(
        "pareta_usage_drift_unexplained_tokens",
        "gauge",
        "The part of the drift that no cut, running or suspect request can account for.",
        ("endpoint", "kind"),
    ),
    Series("pareta_heartbeats_total", "counter", "Heartbeats sent, by result.", ("result",)),
    Series("pareta_plane_up", "gauge", "1 while the lease with the control plane holds."),
    Series("pareta_catalog_age_seconds", "gauge", "Since the channel last confirmed the catalog in use."),
    Series("pareta_catalog_serial", "gauge", "Serial of the followed catalog; 0 where none is followed."),
    Series(
        "pareta_prefetch_aliases", "gauge", "Aliases whose weights are wanted ahead of a start.", ("state",)
    ),
    Series("pareta_prefetch_bytes", "gauge", "Fetched ahead of a start since the agent began."),
    Series("pareta_catalog_refused", "gauge", "1 while the channel is away, or says what is not taken."),
    Series("pareta_gpu_busy_ratio", "gauge", "Share of the last second in which kernels ran.", ("gpu",)),
    Series("pareta_gpu_memory_total_bytes", "gauge", "Memory of a GPU less the driver's own.", ("gpu",)),
    Series("pareta_gpu_memory_free_bytes", "gauge", "Memory of a GPU that nobody holds.", ("gpu",)),
    Series("pareta_gpu_temperature_celsius", "gauge", "Temperature of a GPU's die.", ("gpu",)),
    Series("pareta_gpu_power_watts", "gauge", "Power that a GPU draws.", ("gpu",)),
    Series(
        "pareta_gpu_ecc_uncorrected",
        "gauge",
        "Uncorrected memory errors since the driver was loaded.",
        ("gpu",),
    ),
    Series("pareta_gpu_fenced", "gauge", "1 while nothing may start on a GPU.", ("gpu",)),
    Series("pareta_gpu_xid_total", "counter", "Critical XID events of a GPU by number.", ("gpu", "xid")),
    Series("pareta_plan_candidates", "gauge", "Legal plans that the planner found.", ("endpoint",)),
    Series(
        "pareta_plan_workaround",
        "gauge",
        "1 where the plan avoids a computation that gave wrong text on this hardware.",
        ("endpoint",),
    ),
    Series("pareta_plan_rejections", "gauge", "Plans that the planner rejected.", ("endpoint",)),
)


class Metrics:
    """The registry. Series are named as in `table`; label values are given in the declared order.

    Counting is a dict and an addition, because it happens on the path of every request; `prometheus_client` writes
    the exposition.
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
        """What counters and histograms have grown by since it was asked last, for another registry's `add`."""
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
        """Counts what another process counted."""
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
        """Forgets one labelled child, as when an endpoint is gone; one that never was is no error."""
        self._values.pop((name, labels), None)
        self._histograms.pop((name, labels), None)

    def before_render(self, update: Callable[[], None]) -> None:
        """Calls `update` ahead of each scrape, to set what is read rather than counted."""
        self._before_render.append(update)

    def render(self) -> bytes:
        """The text exposition; an update that raises costs only its own series."""
        for update in self._before_render:
            try:
                update()
            except Exception:
                self.inc("pareta_scrape_errors_total", "")
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What `prometheus_client` asks at a scrape: one family a declared series."""
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
        """(upper bound, observations up to it), the last for +Inf."""
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

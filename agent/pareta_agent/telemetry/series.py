"""Metric series: declares name, kind, help, labels and buckets of each series on /metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Series:
    """A declared series. `labels` is the order of label values."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


TABLE: Final[tuple[Series, ...]] = (
    Series("pareta_build_info", "gauge", "Always 1, with the agent's version as a label.", ("version",)),
    Series("pareta_ready", "gauge", "1 while the node is ready for new requests."),
    Series(
        "pareta_requests_total",
        "counter",
        "Answered requests. No endpoint: the label is empty. Not admitted: `outcome` is refused or replayed.",
        ("endpoint", "route", "outcome", "code"),
    ),
    Series(
        "pareta_requests_quarantined_total",
        "counter",
        "Requests refused by the quarantine: in flight when two engines ended.",
        ("endpoint",),
    ),
    Series("pareta_tokens_total", "counter", "Tokens of admitted requests by kind.", ("endpoint", "kind")),
    Series(
        "pareta_time_to_first_token_seconds",
        "histogram",
        "Time from admission to the first bytes of a streamed answer.",
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
        "Time from admission to the end of the answer.",
        ("endpoint", "route"),
        LATENCY_S,
    ),
    Series("pareta_requests_in_flight", "gauge", "Admitted requests that have not ended.", ("endpoint",)),
    Series(
        "pareta_requests_held",
        "gauge",
        "Calls in the wake queue, for an endpoint that wakes or starts.",
        ("endpoint",),
    ),
    Series(
        "pareta_keys_mostly_partial",
        "gauge",
        "API keys whose callers left at least half of 20 or more answers, in the last complete five minutes.",
    ),
    Series(
        "pareta_upstream_retries_total",
        "counter",
        "Further attempts of admitted requests, before any byte of the answer.",
        ("endpoint",),
    ),
    Series("pareta_front_connections", "gauge", "Open connections of callers."),
    Series("pareta_front_workers", "gauge", "Worker processes that serve callers."),
    Series(
        "pareta_tls_expires_timestamp_seconds",
        "gauge",
        "Expiry of the port's certificate. 0: no certificate.",
    ),
    Series("pareta_front_bad_http_total", "counter", "Connections refused for invalid HTTP.", ("reason",)),
    Series(
        "pareta_sink_errors_total",
        "counter",
        "Failed writes to stdout, stderr, systemd or a worker's output (worker_…). Each write is retried.",
        ("sink",),
    ),
    Series(
        "pareta_sink_dropped_lines_total",
        "counter",
        "Lines dropped, the oldest first, because more than 1 MiB waited for the sink.",
        ("sink",),
    ),
    Series("pareta_sink_waiting_bytes", "gauge", "Text that waits for the sink.", ("sink",)),
    Series(
        "pareta_scrape_errors_total",
        "counter",
        "Engines that did not answer a scrape. Empty endpoint: failed updates of the agent's own gauges.",
        ("endpoint",),
    ),
    Series(
        "pareta_endpoint_state",
        "gauge",
        "1 for the endpoint's current state, 0 for the others.",
        ("endpoint", "state"),
    ),
    Series("pareta_endpoint_replicas", "gauge", "Replicas that take requests.", ("endpoint",)),
    Series("pareta_asleep_weights_bytes", "gauge", "Host memory for the weights of sleeping engines."),
    Series(
        "pareta_cold_start_phase_seconds",
        "gauge",
        "Duration of each phase of the endpoint's latest start.",
        ("endpoint", "phase"),
    ),
    Series(
        "pareta_cold_starts_total",
        "counter",
        "Engine starts, by cause and outcome.",
        ("endpoint", "cause", "outcome"),
    ),
    Series("pareta_cold_start_seconds", "gauge", "Duration of the endpoint's latest start.", ("endpoint",)),
    Series(
        "pareta_cold_start_recent_seconds",
        "gauge",
        "Duration of recent starts by cause: percentiles 50 and 95.",
        ("cause", "percentile"),
    ),
    Series("pareta_engine_exits_total", "counter", "Engines that ended, by reason.", ("endpoint", "reason")),
    Series("pareta_spool_last_sequence", "gauge", "Newest sequence number in the spool."),
    Series("pareta_spool_acked_sequence", "gauge", "Newest sequence number that the plane acknowledged."),
    Series("pareta_spool_unacked_events", "gauge", "Usage records that the plane has not acknowledged."),
    Series("pareta_spool_open_requests", "gauge", "Admitted requests without a final usage record."),
    Series("pareta_spool_bytes", "gauge", "Size of the spool on disk."),
    Series(
        "pareta_spool_used_ratio",
        "gauge",
        "Used share of `spool.max_bytes`. From 0.95 on nothing is admitted.",
    ),
    Series("pareta_metering", "gauge", "1 while usage can be recorded. 0: nothing is admitted."),
    Series("pareta_spool_quarantined_events", "gauge", "Usage records that the plane refused permanently."),
    Series(
        "pareta_usage_drift_tokens",
        "gauge",
        "Drift: the engines' token counters minus the usage records, by kind.",
        ("endpoint", "kind"),
    ),
    Series(
        "pareta_usage_drift_unexplained_tokens",
        "gauge",
        "Drift that no aborted, running or suspect request explains.",
        ("endpoint", "kind"),
    ),
    Series("pareta_heartbeats_total", "counter", "Heartbeats sent, by result.", ("result",)),
    Series(
        "pareta_plane_up", "gauge", "1 while the node holds its lease with the plane. 0: nothing is admitted."
    ),
    Series(
        "pareta_catalog_age_seconds", "gauge", "Time since the channel last confirmed the catalog in use."
    ),
    Series(
        "pareta_catalog_serial", "gauge", "Serial number of the followed catalog. 0: no channel is followed."
    ),
    Series("pareta_prefetch_aliases", "gauge", "Aliases whose weights are prefetched, by state.", ("state",)),
    Series("pareta_prefetch_bytes", "gauge", "Bytes prefetched since the agent's start."),
    Series(
        "pareta_catalog_refused", "gauge", "1 while the channel is unreachable or its catalog is refused."
    ),
    Series("pareta_gpu_busy_ratio", "gauge", "Share of the last second in which kernels ran.", ("gpu",)),
    Series("pareta_gpu_memory_total_bytes", "gauge", "GPU memory without the driver's share.", ("gpu",)),
    Series("pareta_gpu_memory_free_bytes", "gauge", "Free GPU memory.", ("gpu",)),
    Series("pareta_gpu_temperature_celsius", "gauge", "GPU die temperature.", ("gpu",)),
    Series("pareta_gpu_power_watts", "gauge", "GPU power draw.", ("gpu",)),
    Series(
        "pareta_gpu_ecc_uncorrected",
        "gauge",
        "Uncorrected GPU memory errors since the driver was loaded.",
        ("gpu",),
    ),
    Series(
        "pareta_gpu_fenced", "gauge", "1 while the GPU is fenced: no engine starts on a fenced GPU.", ("gpu",)
    ),
    Series("pareta_gpu_xid_total", "counter", "Critical XID errors of a GPU, by number.", ("gpu", "xid")),
    Series("pareta_plan_candidates", "gauge", "Candidates that the planner accepted.", ("endpoint",)),
    Series(
        "pareta_plan_workaround",
        "gauge",
        "1 while the plan avoids a computation that gave wrong text on this hardware.",
        ("endpoint",),
    ),
    Series("pareta_plan_rejections", "gauge", "Candidates that the planner rejected.", ("endpoint",)),
)

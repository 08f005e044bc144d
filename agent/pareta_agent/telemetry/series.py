"""Metric series: the name, kind, help, labels and buckets of everything that a node exposes on /metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

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

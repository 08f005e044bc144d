"""Grafana dashboard of a node, from a table of panels: `python deploy/grafana/make.py > deploy/grafana/node.json`.

Each row is one concern of the on-call engineer, the most urgent first. `tests/unit/test_deploy.py` checks that the file
is current and that each series exists.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 24
HEIGHT: Final = 7
NODE: Final = 'instance=~"$instance"'
PREFIX_HITS: Final = "pareta_engine_prefix_cache_hits_total"
PREFIX_QUERIES: Final = "pareta_engine_prefix_cache_queries_total"
EP: Final = f'{NODE}, endpoint=~"$endpoint"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `unit` is Grafana's name of a unit, `queries` are (legend, PromQL), `kind` is timeseries or stat."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def rate(series: str, *by: str, labels: str = EP) -> str:
    return f"sum by ({', '.join(by)}) (rate({series}{{{labels}}}[$__rate_interval]))"


def quantiles(series: str, *levels: float) -> tuple[tuple[str, str], ...]:
    grouped = rate(f"{series}_bucket", "le", "endpoint")
    return tuple(
        (f"p{level * 100:g} {{{{endpoint}}}}", f"histogram_quantile({level}, {grouped})") for level in levels
    )


def node(series: str, legend: str = "{{instance}}") -> tuple[str, str]:
    return legend, f"{series}{{{NODE}}}"


def per_endpoint(series: str, legend: str = "{{endpoint}}") -> tuple[str, str]:
    return legend, f"{series}{{{EP}}}"


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Readiness",
        (
            Panel("Ready", "bool_yes_no", (node("pareta_ready"),), "stat"),
            Panel("Lease with the plane", "bool_yes_no", (node("pareta_plane_up"),), "stat"),
            Panel("Version", "none", (node("pareta_build_info", "{{version}}"),), "stat"),
            Panel("Endpoints by state", "short", (
                ("{{endpoint}} {{state}}", f"pareta_endpoint_state{{{EP}}} == 1"),
            )),
            Panel("Replicas that take requests", "short", (per_endpoint("pareta_endpoint_replicas"),)),
        ),
    ),
    (
        "Requests",
        (
            Panel("Requests by outcome", "reqps", (
                ("{{outcome}} {{code}}", rate("pareta_requests_total", "outcome", "code", labels=NODE)),
            )),
            Panel("Time to first token", "s", quantiles("pareta_time_to_first_token_seconds", 0.5, 0.99)),
            Panel("Time between tokens", "s", quantiles("pareta_inter_token_seconds", 0.5, 0.99)),
            Panel("Request duration", "s", quantiles("pareta_request_duration_seconds", 0.5, 0.99)),
            Panel("Tokens", "short", (
                ("{{endpoint}} {{kind}}", rate("pareta_tokens_total", "endpoint", "kind")),
            )),
            Panel("In flight and in the wake queue", "short", (
                per_endpoint("pareta_requests_in_flight", "in flight {{endpoint}}"),
                per_endpoint("pareta_requests_held", "queued {{endpoint}}"),
            )),
        ),
    ),
    (
        "Metering",
        (
            Panel("Undelivered usage records", "short", (node("pareta_spool_unacked_events"),)),
            Panel("Sequence: written and acknowledged", "short", (
                node("pareta_spool_last_sequence", "written {{instance}}"),
                node("pareta_spool_acked_sequence", "acknowledged {{instance}}"),
            )),
            Panel("Spool on disk", "bytes", (node("pareta_spool_bytes"),)),
            Panel("Requests without a final record", "short", (node("pareta_spool_open_requests"),)),
            Panel("Usage records refused by the plane", "short", (node("pareta_spool_quarantined_events"),)),
            Panel("Spool in use", "percentunit", (
                node("pareta_spool_used_ratio"),
                node("pareta_metering", "metering {{instance}}"),
            )),
            Panel("Usage drift", "short", (
                per_endpoint("pareta_usage_drift_tokens", "{{endpoint}} {{kind}}"),
                per_endpoint("pareta_usage_drift_unexplained_tokens", "unexplained {{endpoint}} {{kind}}"),
            )),
            Panel("Keys with many partial answers", "short", (node("pareta_keys_mostly_partial"),)),
            Panel("Heartbeats", "ops", (
                ("{{result}}", rate("pareta_heartbeats_total", "result", labels=NODE)),
            )),
        ),
    ),
    (
        "Engines",
        (
            Panel("Requests running and waiting in the engine", "short", (
                per_endpoint("pareta_engine_requests_running", "running {{endpoint}}"),
                per_endpoint("pareta_engine_requests_waiting", "waiting {{endpoint}}"),
            )),
            Panel("KV cache in use", "percentunit", (per_endpoint("pareta_engine_kv_cache_usage_ratio"),)),
            Panel("Prefix cache hits", "percentunit", (
                ("{{endpoint}}", f"{rate(PREFIX_HITS, 'endpoint')} / {rate(PREFIX_QUERIES, 'endpoint')}"),
            )),
            Panel("Cold starts", "s", (
                per_endpoint("pareta_cold_start_phase_seconds", "{{endpoint}} {{phase}}"),
                per_endpoint("pareta_cold_start_seconds", "{{endpoint}} whole"),
                node("pareta_cold_start_recent_seconds", "{{cause}} p{{percentile}}"),
            )),
            Panel("Host memory of sleeping engines", "bytes", (node("pareta_asleep_weights_bytes"),)),
            Panel("Starts and exits", "ops", (
                ("start {{cause}} {{outcome}}", rate("pareta_cold_starts_total", "cause", "outcome")),
                ("exit {{reason}}", rate("pareta_engine_exits_total", "reason")),
            )),
            Panel("Preemptions", "ops", (
                ("{{endpoint}}", rate("pareta_engine_preemptions_total", "endpoint")),
            )),
        ),
    ),
    (
        "GPUs",
        (
            Panel("Busy", "percentunit", (node("pareta_gpu_busy_ratio", "{{gpu}}"),)),
            Panel("Free memory", "bytes", (node("pareta_gpu_memory_free_bytes", "{{gpu}}"),)),
            Panel("Temperature", "celsius", (node("pareta_gpu_temperature_celsius", "{{gpu}}"),)),
            Panel("Power", "watt", (node("pareta_gpu_power_watts", "{{gpu}}"),)),
            Panel("Fenced", "short", (node("pareta_gpu_fenced", "{{gpu}}"),)),
            Panel("GPU errors", "short", (
                ("{{gpu}} XID {{xid}}", f"increase(pareta_gpu_xid_total{{{NODE}}}[1h])"),
                node("pareta_gpu_ecc_uncorrected", "{{gpu}} uncorrected ECC"),
            )),
        ),
    ),
)  # fmt: skip


def row(title: str, y: int) -> dict[str, Any]:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place(0, y, WIDTH, 1)}


def place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def drawn(panel: Panel, x: int, y: int) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place(x, y, WIDTH // 3, HEIGHT),
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expr, "legendFormat": legend}
            for index, (legend, expr) in enumerate(panel.queries)
        ],
    }


def variable(name: str, series: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({series}, {name})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """Grafana's dashboard model (schemaVersion 39, Grafana 10.2 and later)."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row_panels in ROWS:
        panels.append(row(title, y))
        for index, panel in enumerate(row_panels):
            panels.append(drawn(panel, index % 3 * (WIDTH // 3), y + 1 + index // 3 * HEIGHT))
        y += 1 + -(-len(row_panels) // 3) * HEIGHT
    for index, panel in enumerate(panels):
        panel["id"] = index + 1
    return {
        "uid": "pareta-node",
        "title": "Pareta node",
        "tags": ["pareta"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                variable("instance", "pareta_build_info"),
                variable("endpoint", "pareta_endpoint_state"),
            ]
        },
        "panels": panels,
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    sys.stdout.write("\n")

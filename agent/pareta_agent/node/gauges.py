"""What is read rather than counted: the rooms' views as metrics, set ahead of each scrape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pareta_agent.engine.phases import ColdStart
from pareta_agent.engine.view import EndpointStatus, FleetView
from pareta_agent.meter.spool import SpoolStats
from pareta_agent.planning.plan import PlanReport
from pareta_agent.telemetry.metrics import Metrics

STATES: tuple[str, ...] = get_args(EndpointStatus)


class EndpointGauges:
    """One child a state and endpoint; those of an endpoint that is gone are dropped."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shown: set[str] = set()

    def show(self, view: FleetView) -> None:
        for gone in self._shown - set(view.endpoints):
            for state in STATES:
                self._metrics.drop("pareta_endpoint_state", gone, state)
            self._metrics.drop("pareta_endpoint_replicas", gone)
        self._shown = set(view.endpoints)
        for endpoint in view.endpoints.values():
            for state in STATES:
                self._metrics.set(
                    "pareta_endpoint_state", float(endpoint.status == state), endpoint.id, state
                )
            self._metrics.set("pareta_endpoint_replicas", len(endpoint.replicas), endpoint.id)


def show_spool(metrics: Metrics, stats: SpoolStats) -> None:
    metrics.set("pareta_spool_last_sequence", stats.last_seq)
    metrics.set("pareta_spool_acked_sequence", stats.acked_seq)
    metrics.set("pareta_spool_unacked_events", stats.unacked)
    metrics.set("pareta_spool_open_requests", stats.open)
    metrics.set("pareta_spool_bytes", stats.bytes)
    metrics.set("pareta_spool_quarantined_events", stats.quarantined)


def show_cold_start(metrics: Metrics, report: ColdStart) -> None:
    metrics.inc("pareta_cold_starts_total", report.endpoint, report.cause, report.outcome)
    if report.outcome == "ready":
        metrics.set("pareta_cold_start_seconds", report.total_s, report.endpoint)
        for phase, seconds in report.phases.items():
            metrics.set("pareta_cold_start_phase_seconds", seconds, report.endpoint, phase)


def show_plans(metrics: Metrics, reports: Mapping[str, PlanReport]) -> None:
    for endpoint, report in reports.items():
        metrics.set("pareta_plan_candidates", len(report.candidates), endpoint)
        metrics.set("pareta_plan_rejections", len(report.rejections), endpoint)

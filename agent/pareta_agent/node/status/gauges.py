"""Gauges: sets metrics from the components' views before each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from pareta_agent.catalog.source import CatalogSource
from pareta_agent.contract.fleet_view import EndpointStatus, FleetView
from pareta_agent.control.heartbeat import HeartbeatView
from pareta_agent.engine.replica.start_history import Summary
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.hardware.sample import GpuFault
from pareta_agent.meter.spool import SpoolStats
from pareta_agent.node.deployment.prefetch import Prefetcher, State
from pareta_agent.node.status.gpu_monitor import GpuWatch
from pareta_agent.planning.plan import Plan, PlanReport
from pareta_agent.telemetry.events import PHASES, Event, Phase
from pareta_agent.telemetry.metrics import Metrics

STATES: tuple[str, ...] = get_args(EndpointStatus)


class Gauges:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shown: set[str] = set()
        self._beats = {"sent": 0, "failed": 0}

    def endpoints(self, view: FleetView) -> None:
        """Sets a child for each state and endpoint; drops the children of removed endpoints."""
        names = {name for e in view.endpoints.values() for name in (e.id, e.runs_on)}
        for gone in self._shown - names:
            for state in STATES:
                self._metrics.drop("pareta_endpoint_state", gone, state)
            for name in (
                "pareta_endpoint_replicas",
                "pareta_plan_candidates",
                "pareta_plan_rejections",
                "pareta_plan_workaround",
            ):
                self._metrics.drop(name, gone)
        self._shown = names
        for endpoint in view.endpoints.values():
            for state in STATES:
                self._metrics.set(
                    "pareta_endpoint_state", float(endpoint.status == state), endpoint.id, state
                )
            self._metrics.set("pareta_endpoint_replicas", len(endpoint.replicas), endpoint.id)

    def asleep(self, weights_bytes: Iterable[int]) -> None:
        self._metrics.set("pareta_asleep_weights_bytes", sum(weights_bytes))

    def spool(self, stats: SpoolStats, can_admit: bool) -> None:
        self._metrics.set("pareta_spool_used_ratio", stats.used_ratio)
        self._metrics.set("pareta_metering", float(can_admit))
        self._metrics.set("pareta_spool_last_sequence", stats.last_seq)
        self._metrics.set("pareta_spool_acked_sequence", stats.acked_seq)
        self._metrics.set("pareta_spool_unacked_events", stats.unacked)
        self._metrics.set("pareta_spool_open_requests", stats.open)
        self._metrics.set("pareta_spool_bytes", stats.bytes)
        self._metrics.set("pareta_spool_quarantined_events", stats.quarantined)

    def starts(self, summaries: Iterable[Summary]) -> None:
        for each in summaries:
            for percentile, seconds in (("50", each.p50_s), ("95", each.p95_s)):
                self._metrics.set("pareta_cold_start_recent_seconds", seconds, each.cause, percentile)

    def plans(self, reports: Mapping[str, PlanReport], running: Mapping[str, Plan]) -> None:
        for endpoint, plan in running.items():
            self._metrics.set("pareta_plan_workaround", float(plan.workaround is not None), endpoint)
        for endpoint, report in reports.items():
            self._metrics.set("pareta_plan_candidates", len(report.candidates), endpoint)
            self._metrics.set("pareta_plan_rejections", len(report.rejections), endpoint)

    def plane(self, lease: bool, beat: HeartbeatView) -> None:
        self._metrics.set("pareta_plane_up", float(lease))
        for result, count in (("sent", beat.sent), ("failed", beat.failed)):
            self._metrics.inc("pareta_heartbeats_total", result, by=count - self._beats[result])
            self._beats[result] = count

    def catalog(self, catalog_source: CatalogSource) -> None:
        self._metrics.set("pareta_catalog_age_seconds", catalog_source.age_s or 0.0)
        self._metrics.set("pareta_catalog_serial", catalog_source.serial or 0)
        self._metrics.set("pareta_catalog_refused", float(catalog_source.refusal is not None))

    def prefetch(self, prefetcher: Prefetcher) -> None:
        states = [each.state for each in prefetcher.view()]
        for state in get_args(State):
            self._metrics.set("pareta_prefetch_aliases", states.count(state), state)
        self._metrics.set("pareta_prefetch_bytes", prefetcher.fetched_bytes)

    def gpus(self, watch: GpuWatch) -> None:
        """Sets a child for each GPU and driver value; drops every value of a silent GPU except the fence."""
        said: dict[str, dict[str, float | None]] = {
            gpu.uuid: {
                "memory_total_bytes": gpu.usable_bytes,
                "memory_free_bytes": gpu.memory_free_bytes,
                "ecc_uncorrected": gpu.health.ecc_uncorrected,
            }
            for gpu in watch.latest.gpus
        }
        for sample in watch.samples:
            watts = None if sample.power_milliwatts is None else sample.power_milliwatts / 1000
            said.setdefault(sample.uuid, {}).update(
                busy_ratio=sample.busy_ratio,
                temperature_celsius=sample.temperature_celsius,
                power_watts=watts,
            )
        for uuid, values in said.items():
            for name, value in values.items():
                if value is None:
                    self._metrics.drop(f"pareta_gpu_{name}", uuid)
                else:
                    self._metrics.set(f"pareta_gpu_{name}", value, uuid)
        for uuid in {*said, *watch.sick}:
            self._metrics.set("pareta_gpu_fenced", float(uuid in watch.sick), uuid)

    def xid(self, fault: GpuFault) -> None:
        self._metrics.inc("pareta_gpu_xid_total", fault.uuid, str(fault.xid))

    def heard(self, event: Phase | Event) -> None:
        """A bus listener: counts ended engines by the exit reason's code."""
        if isinstance(event, Event) and event.name == "engine_ended":
            self._metrics.inc("pareta_engine_exits_total", event.fields["endpoint"], event.fields["code"])

    def cold_started(self, report: ColdStartReport) -> None:
        self._metrics.inc("pareta_cold_starts_total", report.endpoint, report.cause, report.outcome)
        if report.outcome == "ready":
            self._metrics.set("pareta_cold_start_seconds", report.total_s, report.endpoint)
            for phase in PHASES:  # a wake has fewer phases than the start before
                if (seconds := report.phases.get(phase)) is None:
                    self._metrics.drop("pareta_cold_start_phase_seconds", report.endpoint, phase)
                else:
                    self._metrics.set("pareta_cold_start_phase_seconds", seconds, report.endpoint, phase)

"""Status report: describes the node for the heartbeat, for `pareta-agent status` and for each scrape."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pareta_agent.catalog.source import CatalogSource
from pareta_agent.contract.usage_event import COLDSTART
from pareta_agent.control.heartbeat import HeartbeatLoop, Vitals
from pareta_agent.control.reconciler import Controller
from pareta_agent.control.uplink import Uplink
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.meter.spool import Spool
from pareta_agent.node.deployment.deployer import Deployment
from pareta_agent.node.deployment.placement import Places
from pareta_agent.node.deployment.prefetch import Prefetcher
from pareta_agent.node.sleep.policy import SleepPolicy
from pareta_agent.node.status.gauges import Gauges
from pareta_agent.node.status.gpu_monitor import GpuWatch
from pareta_agent.planning.describe import summary
from pareta_agent.telemetry import sink
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.telemetry.sink_counts import SinkCounts


class StatusReport:
    """Reads components and changes none; set the component attributes before first use."""

    heart: HeartbeatLoop
    front: Gateway
    controller: Controller
    uplink: Uplink
    deployment: Deployment
    places: Places
    policy: SleepPolicy
    gpus: GpuWatch
    catalog_source: CatalogSource
    prefetcher: Prefetcher

    def __init__(
        self, home: Path, settings_json: str, inventory: Mapping[str, Any], spool: Spool, metrics: Metrics
    ) -> None:
        self._home, self._inventory, self._spool = home, inventory, spool
        self._digest = hashlib.sha256(settings_json.encode()).hexdigest()[:16]
        self._gauges = Gauges(metrics)
        self.heard, self.xid = self._gauges.heard, self._gauges.xid
        self._last_start_s: dict[str, float] = {}
        self.fleet: Fleet | None = None
        self.sinks = SinkCounts(metrics, sink.installed())
        metrics.before_render(self._show)
        metrics.before_render(self.sinks.count)

    def cold_started(self, report: ColdStartReport) -> None:
        """Records an event, a count and a status line for each start."""
        self._gauges.cold_started(report)
        self._last_start_s[report.endpoint] = report.total_s
        names = ("endpoint", "replica", "generation", "cause", "total_s", "outcome", "reason")
        fields = {name: getattr(report, name) for name in names}
        self._spool.append_event(COLDSTART, {**fields, "phases": dict(report.phases)})

    def vitals(self) -> Vitals:
        endpoints = list(self.fleet.view().endpoints.values()) if self.fleet else []
        states = [e.status for e in endpoints]
        return Vitals(
            state="draining"
            if self.front.draining
            else "ready"
            if {"live", "cold"} & set(states)
            else "starting",
            engines_ready=sum(len(e.replicas) for e in endpoints),
            engines_starting=states.count("deploying"),
            engines_failed=states.count("failed"),
            running=self.front.in_flight,
            disk_free_bytes=shutil.disk_usage(self._home).free,
            config_digest=self._digest,
            desired_revision=self.controller.revision,
            inventory=self._inventory,
        )

    def up_to_date(self) -> bool:
        """True once the desired state was carried out; an empty desired state counts."""
        beat = self.heart.view
        return beat.epoch > 0 and beat.desired_revision == self.controller.revision

    def plans(self) -> dict[str, dict[str, Any]]:
        """A summary of each engine's plan: layout and limits, no weights id."""
        return {e: {"summary": summary(p), **asdict(p)} for e, p in self.places.plans().items()}

    def workarounds(self) -> tuple[str, ...]:
        """The wrong computations that the plans avoid here, without repetition."""
        found = (plan.workaround for plan in self.places.plans().values())
        return tuple(dict.fromkeys(note for note in found if note))

    def status(self) -> dict[str, Any]:
        """Plain values for `pareta-agent status`."""
        beat, plans, refused = self.heart.view, self.plans(), self.controller.failures
        endpoints = self.fleet.view().endpoints.values() if self.fleet else ()
        asleep_bytes = self.fleet.asleep_bytes() if self.fleet else {}
        return {
            "endpoints": [
                {
                    "id": e.id,
                    "task": e.task,
                    "alias": e.alias,
                    "status": e.status,
                    "reason": e.reason,
                    "replicas": len(e.replicas),
                    "retry_after_s": e.retry_after_s,
                    "idle_sleep_s": self.policy.limit_s(e),
                    "asleep_bytes": asleep_bytes.get(e.runs_on),
                    "plan": plans.get(e.runs_on),
                    "last_start_s": self._last_start_s.get(e.runs_on),
                    "shared_engine": e.engine,
                    "refused": refused[e.id].message if e.id in refused else None,
                }
                for e in endpoints
            ],
            "front_workers": self.front.workers(),
            "catalog": self.catalog_source.view(),
            "prefetch": self.prefetcher.status(),
            "cold_starts": [asdict(each) for each in self.fleet.start_times()] if self.fleet else [],
            "spool": {key: value for key, value in asdict(self._spool.stats()).items() if key != "last_hash"},
            "plane": {
                "epoch": beat.epoch,
                "lease": self.heart.may_admit(),
                "heartbeats": beat.sent,
                "failed": beat.failed,
                "trouble": beat.trouble or self.uplink.view.trouble or None,
            },
        }

    def _show(self) -> None:
        if self.fleet:
            self._gauges.endpoints(self.fleet.view())
            self._gauges.starts(self.fleet.start_times())
            self._gauges.asleep(self.fleet.asleep_bytes().values())
        self._gauges.spool(self._spool.stats(), self._spool.can_admit())
        self._gauges.plans(self.deployment.reports, self.places.plans())
        self._gauges.gpus(self.gpus)
        self._gauges.catalog(self.catalog_source)
        self._gauges.prefetch(self.prefetcher)
        self._gauges.plane(self.heart.may_admit(), self.heart.view)

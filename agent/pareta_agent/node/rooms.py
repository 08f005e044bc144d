"""Every room of one node, made and joined; what they ask of each other is wired here and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from pareta_agent import __version__
from pareta_agent.access.credit import CreditBook
from pareta_agent.access.grant import Price
from pareta_agent.access.keys import KeyCache
from pareta_agent.clock import Clock
from pareta_agent.config import Settings
from pareta_agent.control import heartbeat, wire
from pareta_agent.control.client import PlaneClient
from pareta_agent.control.controller import Controller
from pareta_agent.control.heartbeat import Heart, Listeners, Vitals
from pareta_agent.control.offer import open_catalog
from pareta_agent.control.reconcile import Wanted
from pareta_agent.control.uplink import Uplink
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.phases import ColdStart
from pareta_agent.front.deps import FrontDeps
from pareta_agent.front.front import Front
from pareta_agent.hardware.inventory import to_json
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.meter.event import COLDSTART
from pareta_agent.meter.record import Admission, UsageRecord
from pareta_agent.meter.spool import Spool
from pareta_agent.node import gauges, slices
from pareta_agent.node.deploy import Deployment, summary
from pareta_agent.node.identity import Identity
from pareta_agent.node.interpreter import Interpreter
from pareta_agent.node.observer import Observer
from pareta_agent.node.ready import PlaneAddress
from pareta_agent.planning.request import PlanRequest, for_resolution
from pareta_agent.telemetry.events import Bus
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.weights.store import WeightsStore
from pareta_registry.resolve import Resolution


@dataclass(frozen=True, slots=True)
class Admitting:
    """The spool as the front sees it: it also refuses what the lease does not cover."""

    spool: Spool
    may_admit: Callable[[], bool]

    def can_admit(self) -> bool:
        return self.spool.can_admit() and self.may_admit()

    def admit(self, admission: Admission) -> None:
        self.spool.admit(admission)

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        return self.spool.finish(record)


class Rooms:
    """Made by `open`, ended by `close`. Attributes are the rooms; the callbacks between them are its methods."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        client: PlaneClient,
        spool: Spool,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self.settings, self.client, self.spool = settings, client, spool
        self.registered = asyncio.Event()
        self.metrics = Metrics()
        self.metrics.set("pareta_build_info", 1, __version__)
        inventory = read_inventory()
        self._inventory: dict[str, Any] = orjson.loads(to_json(inventory))
        self.interpreter = Interpreter(settings, inventory, bus)
        self.fleet = Fleet(
            slices.engine_settings(settings, self.interpreter.version), clock, bus, self._cold_started
        )
        self.interpreter.use = self.fleet.use_interpreter
        self.weights = WeightsStore(slices.weights_settings(settings), clock)
        self.keys = KeyCache(client.introspect, clock)
        self.book = CreditBook(self._lease, clock)
        self._prices: Mapping[str, Price] = {}
        who = heartbeat.Identity(identity.node, identity.boot_id, __version__)
        listeners = Listeners(self._new_epoch, self.keys.revise, self._credit_renewed)
        self.heart = Heart(client, spool, who, self._vitals, clock, bus, listeners)
        self.uplink = Uplink(client, spool, clock, bus)
        self.deployment = Deployment(
            open_catalog(settings.registry.catalog),
            read_inventory,
            self.weights,
            self.fleet,
            self.interpreter.ready,
            self._plan_request,
            bus,
        )
        self.controller = Controller(self._desired, self.deployment, clock, bus)
        self.observer = Observer(client, self.fleet, self._plans, self._place, clock)
        self._deps = FrontDeps(
            keys=self.keys,
            credit=self.book,
            price_of=self._price_of,
            spool=Admitting(spool, self.heart.may_admit),
            fleet_view=self.fleet.view,
            metrics=self.metrics,
            clock=clock,
            emit=bus,
        )
        self.front = Front(slices.front_settings(settings), self._deps)
        self._gauges = gauges.EndpointGauges(self.metrics)
        self.metrics.before_render(self._show)

    @classmethod
    async def open(
        cls, settings: Settings, identity: Identity, address: PlaneAddress, bus: Bus, clock: Clock
    ) -> Rooms:
        """Raises AgentError when a room cannot be made; nothing stays open then."""
        spool = Spool.open(
            settings.home / "spool" / "spool.db", slices.spool_settings(settings, identity.node), clock
        )
        client = PlaneClient(address.url, address.token, identity.node)
        try:
            return cls(settings, identity, client, spool, bus, clock)
        except BaseException:
            await client.close()
            spool.close()
            raise

    async def drain(self, deadline_s: float, hurry: asyncio.Event) -> None:
        """Admitted requests finish, for `deadline_s` or until somebody hurries."""
        draining = asyncio.create_task(self.front.drain(deadline_s))
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not draining.done():
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
            await self.front.drain(0.0)

    async def close(self) -> None:
        await self.client.close()
        await asyncio.to_thread(self.spool.close)

    def status(self) -> dict[str, Any]:
        """For `pareta-agent status`: plain values."""
        spool, beat = self.spool.stats(), self.heart.view
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
                    "plan": self._plans().get(e.id),
                }
                for e in self.fleet.view().endpoints.values()
            ],
            "spool": {k: v for k, v in asdict(spool).items() if k != "last_hash"},
            "plane": {
                "epoch": beat.epoch,
                "lease": self.heart.may_admit(),
                "heartbeats": beat.sent,
                "failed": beat.failed,
                "trouble": beat.trouble or self.uplink.view.trouble or None,
            },
            "cold_starts": {e: f"{seconds:.1f} s" for e, seconds in self._last_start_s.items()},
        }

    # what one room says and another hears

    _last_start_s: Mapping[str, float] = {}

    async def _desired(self, revision: int, wait_s: float) -> tuple[int, list[Wanted]]:
        answer = await self.client.desired(revision, wait_s)
        self._prices = {e.id: Price(**e.price.model_dump()) for e in answer.endpoints}
        return answer.revision, [_wanted(entry) for entry in answer.endpoints]

    def _price_of(self, endpoint: str) -> Price | None:
        return self._prices.get(endpoint)

    async def _lease(self, org: str, micro_usd: int) -> Any:
        return await self.client.credit_lease(self.heart.view.epoch, org, micro_usd)

    def _new_epoch(self, _epoch: int) -> None:
        self.book.drop()
        self.uplink.resume()
        self.registered.set()

    def _credit_renewed(self, lease: wire.CreditLease) -> None:
        self.book.extend(lease.org, lease.expires_s)

    def _cold_started(self, report: ColdStart) -> None:
        gauges.show_cold_start(self.metrics, report)
        self._last_start_s = {**self._last_start_s, report.endpoint: report.total_s}
        self.spool.append_event(
            COLDSTART,
            {
                "endpoint": report.endpoint,
                "replica": report.replica,
                "generation": report.generation,
                "cause": report.cause,
                "phases": dict(report.phases),
                "total_s": report.total_s,
                "outcome": report.outcome,
                "reason": report.reason,
            },
        )

    def _vitals(self) -> Vitals:
        states = [e.status for e in self.fleet.view().endpoints.values()]
        return Vitals(
            state="draining" if self.front.draining else "ready" if "live" in states else "starting",
            engines_ready=sum(len(e.replicas) for e in self.fleet.view().endpoints.values()),
            engines_starting=states.count("deploying"),
            engines_failed=states.count("failed"),
            running=self.front.in_flight,
            disk_free_bytes=shutil.disk_usage(self.settings.home).free,
            config_digest=_digest(self.settings),
            desired_revision=self.controller.revision,
            inventory=self._inventory,
        )

    def _plan_request(self, resolution: Resolution, wanted: Wanted) -> PlanRequest:
        objective = wanted.objective or self.settings.objective
        request = for_resolution(resolution, objective=objective, replicas=wanted.replicas)
        return replace(
            request, max_model_len=self.settings.max_model_len, engine_version=self.interpreter.version
        )

    def _plans(self) -> dict[str, dict[str, Any]]:
        best = ((e, report.best) for e, report in self.deployment.reports.items())
        return {
            e: {"summary": summary(p), "tp": p.tp, "pp": p.pp, "replicas": p.replicas} for e, p in best if p
        }

    def _place(self) -> tuple[int, int]:
        return self.heart.view.epoch, self.controller.revision

    def _show(self) -> None:
        self._gauges.show(self.fleet.view())
        gauges.show_spool(self.metrics, self.spool.stats())
        gauges.show_plans(self.metrics, self.deployment.reports)
        self.metrics.set("pareta_plane_up", float(self.heart.may_admit()))


def _wanted(entry: wire.DesiredEndpoint) -> Wanted:
    return Wanted(
        id=entry.id,
        org=entry.org,
        task=entry.task,
        alias=entry.alias,
        state=entry.state,
        created_s=entry.created_s,
        objective=entry.objective,
        replicas=entry.replicas,
        inject_system_prompt=entry.system_prompt == "task",
    )


def _digest(settings: Settings) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]

"""Wiring: makes every component of a node and connects the callbacks between them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from pareta_agent import __version__
from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.access.keys import KeyCache
from pareta_agent.catalog.source import CatalogSource
from pareta_agent.clock import Clock
from pareta_agent.config import Settings
from pareta_agent.control import heartbeat
from pareta_agent.control.credit_leases import CreditLeases
from pareta_agent.control.heartbeat import HeartbeatLoop, Listeners
from pareta_agent.control.plan_answers import PlanAnswers
from pareta_agent.control.plane_client import PlaneClient
from pareta_agent.control.reconciler import Controller
from pareta_agent.control.uplink import Uplink
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.errors import NothingFits
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.hardware.inventory import Gpu, to_json
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.meter.audit import Audit
from pareta_agent.meter.settings import spool_path
from pareta_agent.meter.spool import Spool
from pareta_agent.node import settings_map
from pareta_agent.node.deployment.deployer import Deployment
from pareta_agent.node.deployment.desired_source import WantedSource
from pareta_agent.node.deployment.placement import Places
from pareta_agent.node.deployment.prefetch import Prefetcher
from pareta_agent.node.deployment.start_recovery import MEASURED, StartRecovery
from pareta_agent.node.engine_interpreter import EngineProgram
from pareta_agent.node.identity import StoredIdentity
from pareta_agent.node.readiness import PlaneAddress
from pareta_agent.node.sleep.demand import Demand
from pareta_agent.node.sleep.policy import SleepPolicy
from pareta_agent.node.sleep.scale_down import IdleScaler
from pareta_agent.node.sleep.wake import Activator
from pareta_agent.node.status.gpu_monitor import GpuWatch
from pareta_agent.node.status.observed_reporter import Observer
from pareta_agent.node.status.report import StatusReport
from pareta_agent.node.status.start_progress import ProgressBook
from pareta_agent.node.status.usage_audit import Auditor
from pareta_agent.node.upgrade.fleet_switch import FleetSwitch
from pareta_agent.node.upgrade.ownership import Ownership
from pareta_agent.node.upgrade.spool_switch import SpoolSwitch
from pareta_agent.planning.plan import Plan
from pareta_agent.telemetry.events import Bus
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Catalog


class Components:
    """Made by `open`, ended by `close`. Attributes are the components; the callbacks between them are methods."""

    def __init__(
        self,
        settings: Settings,
        identity: StoredIdentity,
        catalog_source: CatalogSource,
        client: PlaneClient,
        spool: Spool,
        bus: Bus,
        clock: Clock,
        plane_url: str | None = None,
    ) -> None:
        self.settings, self.catalog_source, self.client = settings, catalog_source, client
        self.spool = spool
        self.clock = clock
        self.plane_url = plane_url
        self.registered = asyncio.Event()
        self._inventory = inventory = read_inventory()
        metrics = Metrics()
        metrics.set("pareta_build_info", 1, __version__)
        self.report = report = StatusReport(
            settings.home, settings.model_dump_json(), orjson.loads(to_json(inventory)), spool, metrics
        )
        report.catalog_source = catalog_source
        bus.listen(report.heard)
        self.gpus = report.gpus = GpuWatch(inventory, bus, report.xid)
        self.interpreter = EngineProgram(settings, inventory, bus)
        self.fleet = report.fleet = Fleet(
            settings_map.engine_settings(settings, self.interpreter.version), clock, bus, self._cold_started
        )
        self.interpreter.use = self._use_interpreter
        self.places = report.places = Places(self.fleet, lambda: self.gpus.latest)
        self.start_recovery = StartRecovery(
            settings.home / MEASURED, self.fleet.settings.log_dir, self.interpreter.version,
            lambda: self.interpreter.numerics, self._gpu_of, self.places.gpu_groups, self.fleet.wish, clock, bus,
        )  # fmt: skip
        self.places.plans = self.start_recovery.plans
        self._join_plane(identity, bus, clock)
        self._join_front(metrics, bus, clock)

    def _join_plane(self, identity: StoredIdentity, bus: Bus, clock: Clock) -> None:
        """Makes the components that the control plane drives."""
        client, report, settings = self.client, self.report, self.settings
        self.wanted = WantedSource(client)
        idle_s, asleep_s = settings.engine.idle_sleep_s, settings.engine.asleep_s
        self.policy = report.policy = SleepPolicy(
            self.wanted.idle_sleep_s, lambda: self.catalog_source.catalog, idle_s
        )
        self.keys = KeyCache(client.introspect, clock)
        self.credit_leases = CreditLeases(client.credit_lease, lambda: self.heart.view.epoch)
        self.book = CreditBook(self._lease, clock)
        weights = WeightsStore(settings_map.weights_settings(settings), clock)
        self.deployment = report.deployment = Deployment(
            self.catalog_source.catalog,
            self.gpus.inventory,
            self.places,
            weights,
            self.fleet,
            self.interpreter.ready,
            lambda: self.interpreter.support,
            lambda *asked: settings_map.plan_request(settings, self.interpreter.version, *asked),
            self.start_recovery,
            bus,
            lambda wanted: asleep_s > 0 and self.policy.limit_s(wanted) is not None,
            settings.registry.trust_remote_code,
        )
        self.controller = report.controller = Controller(self.wanted.desired, self.deployment, clock, bus)
        sender = heartbeat.NodeIdentity(identity.node, identity.boot_id, __version__)
        listeners = Listeners(
            self._new_epoch, self.keys.revise, lambda it: self.book.extend(it.org, it.expires_s)
        )
        self.heart = report.heart = HeartbeatLoop(
            client, self.spool, sender, report.vitals, clock, bus, listeners
        )
        self.uplink = report.uplink = Uplink(client, self.spool, clock, bus)
        progress = ProgressBook(clock)
        bus.listen(progress.heard)
        self.observer = Observer(client, self.fleet, report.plans, progress, self._place, clock)
        self.prefetcher = report.prefetcher = Prefetcher(
            lambda: self.catalog_source.catalog, self.controller.wanted.values, settings.registry,
            self.deployment.dry_run.parts, weights, clock, bus,
        )  # fmt: skip
        self.questions = PlanAnswers(client, self.deployment.dry_run.judge, clock)

    def _join_front(self, metrics: Metrics, bus: Bus, clock: Clock) -> None:
        audit = Audit()
        self.auditor = Auditor(self.fleet, audit, metrics, clock, bus)
        bus.listen(self.auditor.heard)
        spool_switch = SpoolSwitch(self.spool, self.heart.may_admit)
        fleet_switch = FleetSwitch(self.fleet.view)
        deps = GatewayDeps(
            keys=self.keys,
            credit=self.book,
            price_of=self.wanted.price_of,
            spool=spool_switch,
            fleet_view=fleet_switch,
            metrics=metrics,
            clock=clock,
            emit=bus,
            plane_url=self.plane_url,
            wake=self._wake,
            audit=audit,
        )
        certificate = settings_map.certificate(self.settings)
        self.front = self.report.front = Gateway(
            settings_map.front_settings(self.settings), deps, certificate
        )
        bus.listen(self.front.observe_event)
        self.demand = Demand(self.front, clock)
        self.fleet.watch(self.demand.load, self.demand.waiting)
        asleep_s, limit_s = self.settings.engine.asleep_s, self.policy.limit_s
        self.idle_scaler = IdleScaler(
            self.fleet, self.places.plans, self.demand.used_s, limit_s, asleep_s, clock, bus
        )
        hold_s = self.settings.front.hold_s
        self.activator = Activator(self.fleet, self.places, self.controller.again, hold_s, clock)
        self.ownership = Ownership(
            self.registered, self.fleet, fleet_switch, self.spool, spool_switch, self.front, self.book,
            self.credit_leases, self.heart, self.controller, self.auditor, self.activator,
        )  # fmt: skip

    @classmethod
    async def open(
        cls,
        settings: Settings,
        identity: StoredIdentity,
        catalog_source: CatalogSource,
        address: PlaneAddress,
        bus: Bus,
        clock: Clock,
        *,
        shared: bool = False,
    ) -> Components:
        """Raises AgentError when a component cannot be made; nothing stays open then.

        `shared`: a predecessor still works on the requests that are open in the spool.
        """
        of_spool = settings_map.spool_settings(settings, identity.node)
        spool = Spool.open(spool_path(settings.home), of_spool, clock, shared=shared)
        client = PlaneClient(address.url, address.token, identity.node)
        try:
            plane_url = address.url if address.embedded else None
            return cls(settings, identity, catalog_source, client, spool, bus, clock, plane_url)
        except BaseException:
            await client.close()
            spool.close()
            raise

    async def drain(self, deadline_s: float, hurry: asyncio.Event) -> None:
        """Lets admitted requests finish, for `deadline_s` or until `hurry` is set."""
        draining = asyncio.create_task(self.front.drain(deadline_s))
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not draining.done():
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
            await self.front.drain(0.0)

    async def close(self) -> None:
        await self.activator.close()
        await self.client.close()
        await asyncio.to_thread(self.spool.close)

    # callbacks between components

    def _cold_started(self, report: ColdStartReport) -> None:
        self.report.cold_started(report)
        self.start_recovery.cold_started(report)

    def _gpu_of(self, plan: Plan) -> Gpu | None:
        wanted = plan.gpus[0][0] if plan.gpus and plan.gpus[0] else None
        return next((gpu for gpu in self._inventory.gpus if gpu.uuid == wanted), None)

    def _use_interpreter(self, python: Path, version: str) -> None:
        self.fleet.use_interpreter(python, version)
        self.start_recovery.engine_is(version)

    async def gpus_moved(self) -> None:
        """Plans endpoints again that lost their GPUs or had none, after GPUs failed or recovered."""
        homeless = await self.controller.between(self.deployment.moved)
        unplaced = [e for e, error in self.controller.failures.items() if isinstance(error, NothingFits)]
        for endpoint in dict.fromkeys([*homeless, *unplaced]):
            await self.controller.again(endpoint)

    async def catalog_changed(self, catalog: Catalog) -> None:
        """Deploys endpoints again whose weights or settings the catalog changes."""
        for endpoint in self.deployment.catalog_changed(catalog):
            await self.controller.again(endpoint)

    def _wake(self, endpoint: str) -> None:
        self.ownership.wake(endpoint)

    async def _lease(self, org: str, micro_usd: int) -> GrantedLease:
        return await self.ownership.lease(org, micro_usd)

    def _new_epoch(self, _epoch: int) -> None:
        self.book.drop()
        self.uplink.resume()
        self.registered.set()

    def _place(self) -> tuple[int, int]:
        return self.heart.view.epoch, self.controller.revision

"""Every room of one node, made and joined; what they ask of each other is wired here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import orjson

from pareta_agent import __version__
from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.access.keys import KeyCache
from pareta_agent.clock import Clock
from pareta_agent.config import Settings
from pareta_agent.control import heartbeat
from pareta_agent.control.client import PlaneClient
from pareta_agent.control.controller import Controller
from pareta_agent.control.heartbeat import HeartbeatLoop, Listeners
from pareta_agent.control.lender import CreditLeases
from pareta_agent.control.offer import CatalogSource
from pareta_agent.control.questions import PlanAnswers
from pareta_agent.control.uplink import Uplink
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.phases import ColdStartReport
from pareta_agent.errors import HostError, NothingFits, PlaneError
from pareta_agent.front.front import Gateway
from pareta_agent.front.ports import GatewayDeps
from pareta_agent.hardware.inventory import Gpu, to_json
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.meter.audit import Audit
from pareta_agent.meter.settings import spool_path
from pareta_agent.meter.spool import Spool
from pareta_agent.node import slices
from pareta_agent.node.auditor import Auditor
from pareta_agent.node.demand import Demand
from pareta_agent.node.deploy import Deployment
from pareta_agent.node.gpus import GpuWatch
from pareta_agent.node.healer import MEASURED, StartRecovery
from pareta_agent.node.heir import Heir
from pareta_agent.node.identity import StoredIdentity
from pareta_agent.node.idler import IdleScaler
from pareta_agent.node.interpreter import EngineProgram
from pareta_agent.node.observer import Observer
from pareta_agent.node.places import Places
from pareta_agent.node.prefetch import Prefetcher
from pareta_agent.node.progress import ProgressBook
from pareta_agent.node.ready import PlaneAddress
from pareta_agent.node.records import Records
from pareta_agent.node.report import StatusReport
from pareta_agent.node.sight import Sight
from pareta_agent.node.sleep_policy import SleepPolicy
from pareta_agent.node.waker import Activator
from pareta_agent.node.wanted import WantedSource
from pareta_agent.planning.plan import Plan
from pareta_agent.telemetry.events import Bus
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Catalog


class Rooms:
    """Made by `open`, ended by `close`. Attributes are the rooms; the callbacks between them are its methods."""

    def __init__(
        self,
        settings: Settings,
        identity: StoredIdentity,
        offer: CatalogSource,
        client: PlaneClient,
        spool: Spool,
        bus: Bus,
        clock: Clock,
        plane_url: str | None = None,
    ) -> None:
        self.settings, self.offer, self.client, self.spool = settings, offer, client, spool
        self.clock = clock
        self.plane_url = plane_url
        self.registered = asyncio.Event()
        self._heir: Heir | None = None
        self._inventory = inventory = read_inventory()
        metrics = Metrics()
        metrics.set("pareta_build_info", 1, __version__)
        self.report = report = StatusReport(
            settings.home, settings.model_dump_json(), orjson.loads(to_json(inventory)), spool, metrics
        )
        report.catalog_source = offer
        bus.listen(report.heard)
        self.gpus = report.gpus = GpuWatch(inventory, bus, report.xid)
        self.interpreter = EngineProgram(settings, inventory, bus)
        self.fleet = report.fleet = Fleet(
            slices.engine_settings(settings, self.interpreter.version), clock, bus, self._cold_started
        )
        self.interpreter.use = self._use_interpreter
        self.places = report.places = Places(self.fleet, lambda: self.gpus.latest)
        self.healer = StartRecovery(
            settings.home / MEASURED, self.fleet.settings.log_dir, self.interpreter.version,
            lambda: self.interpreter.numerics, self._gpu_of, self.places.seats, self.fleet.wish, clock, bus,
        )  # fmt: skip
        self.places.plans = self.healer.plans
        self._join_plane(identity, bus, clock)
        self._join_front(metrics, bus, clock)

    def _join_plane(self, identity: StoredIdentity, bus: Bus, clock: Clock) -> None:
        """What speaks with the control plane, and what it makes this node do."""
        client, report, settings = self.client, self.report, self.settings
        self.wanted = WantedSource(client)
        idle_s, asleep_s = settings.engine.idle_sleep_s, settings.engine.asleep_s
        self.policy = report.policy = SleepPolicy(
            self.wanted.idle_sleep_s, lambda: self.offer.catalog, idle_s
        )
        self.keys = KeyCache(client.introspect, clock)
        self.lender = CreditLeases(client.credit_lease, lambda: self.heart.view.epoch)
        self.book = CreditBook(self.lease, clock)
        weights = WeightsStore(slices.weights_settings(settings), clock)
        self.deployment = report.deployment = Deployment(
            self.offer.catalog,
            self.gpus.inventory,
            self.places,
            weights,
            self.fleet,
            self.interpreter.ready,
            lambda: self.interpreter.support,
            lambda *asked: slices.plan_request(settings, self.interpreter.version, *asked),
            self.healer,
            bus,
            lambda wanted: asleep_s > 0 and self.policy.limit_s(wanted) is not None,
            settings.registry.trust_remote_code,
        )
        self.controller = report.controller = Controller(self.wanted.desired, self.deployment, clock, bus)
        who = heartbeat.NodeIdentity(identity.node, identity.boot_id, __version__)
        hears = Listeners(
            self._new_epoch, self.keys.revise, lambda it: self.book.extend(it.org, it.expires_s)
        )
        self.heart = report.heart = HeartbeatLoop(client, self.spool, who, report.vitals, clock, bus, hears)
        self.uplink = report.uplink = Uplink(client, self.spool, clock, bus)
        progress = ProgressBook(clock)
        bus.listen(progress.heard)
        self.observer = Observer(client, self.fleet, report.plans, progress, self._place, clock)
        self.prefetcher = report.prefetcher = Prefetcher(
            lambda: self.offer.catalog, self.controller.wanted.values, settings.registry,
            self.deployment.parts, weights, clock, bus,
        )  # fmt: skip
        self.questions = PlanAnswers(client, self.deployment.judge, clock)

    def _join_front(self, metrics: Metrics, bus: Bus, clock: Clock) -> None:
        audit = Audit()
        self.auditor = Auditor(self.fleet, audit, metrics, clock, bus)
        bus.listen(self.auditor.heard)
        self.records = Records(self.spool, self.heart.may_admit)
        self.sight = Sight(self.fleet.view)
        deps = GatewayDeps(
            keys=self.keys,
            credit=self.book,
            price_of=self.wanted.price_of,
            spool=self.records,
            fleet_view=self.sight,
            metrics=metrics,
            clock=clock,
            emit=bus,
            plane_url=self.plane_url,
            wake=self.wake,
            audit=audit,
        )
        certificate = slices.certificate(self.settings)
        self.front = self.report.front = Gateway(slices.front_settings(self.settings), deps, certificate)
        bus.listen(self.front.observe_event)
        self.demand = Demand(self.front, clock)
        self.fleet.watch(self.demand.load, self.demand.waiting)
        asleep_s, limit_s = self.settings.engine.asleep_s, self.policy.limit_s
        self.idler = IdleScaler(
            self.fleet, self.places.plans, self.demand.used_s, limit_s, asleep_s, clock, bus
        )
        hold_s = self.settings.front.hold_s
        self.waker = Activator(self.fleet, self.places, self.controller.again, hold_s, clock)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        identity: StoredIdentity,
        offer: CatalogSource,
        address: PlaneAddress,
        bus: Bus,
        clock: Clock,
        *,
        shared: bool = False,
    ) -> Rooms:
        """Raises AgentError when a room cannot be made; nothing stays open then.

        `shared`: another agent still works on the requests that the spool holds open.
        """
        of_spool = slices.spool_settings(settings, identity.node)
        spool = Spool.open(spool_path(settings.home), of_spool, clock, shared=shared)
        client = PlaneClient(address.url, address.token, identity.node)
        try:
            plane_url = address.url if address.embedded else None
            return cls(settings, identity, offer, client, spool, bus, clock, plane_url)
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

    async def end_epoch(self) -> None:
        """The chain's last entry, unless the disk takes no more."""
        with contextlib.suppress(HostError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self.spool.end_epoch()

    async def bequeath(self, heir: Heir) -> None:
        """From here on the front works for this agent's last requests with what another one tells."""
        self.sight.changes_hands(lambda: heir.fleet, lambda: heir.kept)
        await self.fleet.leave()
        self._heir = heir
        self.book.drop()
        heir.begins(self.front.loads())
        self.records.go_on(heir, heir.can_admit)

    async def inherit_back(self, heir: Heir | None) -> None:
        """The spool's file is free again, and the engines where there was an `heir`: this agent goes on."""
        self._heir = None
        self.registered.clear()
        self.spool.reopen()
        if heir is not None:
            self.sight.changes_hands(None, lambda: self.fleet.kept if self.fleet.reaped else None)
            self.controller.forget()
            self.auditor.forget()
            self.records.take_back(heir.unanswered(), {each.request_id for each in self.spool.inherited})
        self.records.go_on(self.spool, self.heart.may_admit)
        if heir is not None:
            await self.fleet.reap_orphans()

    async def close(self) -> None:
        await self.waker.close()
        await self.client.close()
        await asyncio.to_thread(self.spool.close)

    # what one room says and another hears

    def _cold_started(self, report: ColdStartReport) -> None:
        self.report.cold_started(report)
        self.healer.cold_started(report)

    def _gpu_of(self, plan: Plan) -> Gpu | None:
        wanted = plan.gpus[0][0] if plan.gpus and plan.gpus[0] else None
        return next((gpu for gpu in self._inventory.gpus if gpu.uuid == wanted), None)

    def _use_interpreter(self, python: Path, version: str) -> None:
        self.fleet.use_interpreter(python, version)
        self.healer.engine_is(version)

    async def gpus_moved(self) -> None:
        """GPUs broke or recovered: what lost its place, or had none, is planned anew."""
        homeless = await self.controller.between(self.deployment.moved)
        unplaced = [e for e, error in self.controller.failures.items() if isinstance(error, NothingFits)]
        for endpoint in dict.fromkeys([*homeless, *unplaced]):
            await self.controller.again(endpoint)

    async def catalog_changed(self, catalog: Catalog) -> None:
        """What it makes of other weights or settings is deployed anew; the rest goes on as it is."""
        for endpoint in self.deployment.offer(catalog):
            await self.controller.again(endpoint)

    def wake(self, endpoint: str) -> None:
        (self._heir or self.waker).wake(endpoint)

    async def lease(self, org: str, micro_usd: int) -> GrantedLease:
        """More credit for an org, from the plane or from the agent that has its lease now. Raises PlaneError."""
        if (heir := self._heir) is not None:
            try:
                return await heir.lease(org, micro_usd)
            except PlaneError:
                if self._heir is heir:
                    raise
        await self.registered.wait()
        return await self.lender.lease(org, micro_usd)

    def _new_epoch(self, _epoch: int) -> None:
        self.book.drop()
        self.uplink.resume()
        self.registered.set()

    def _place(self) -> tuple[int, int]:
        return self.heart.view.epoch, self.controller.revision

"""Deployer: resolves, plans and starts the endpoints that the controller requests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from pareta_agent.catalog.source import find, trusts_code
from pareta_agent.contract.fleet_view import EndpointStatus, EndpointView
from pareta_agent.control.reconcile import Wanted
from pareta_agent.engine.fleet import Fleet
from pareta_agent.errors import AgentError, NothingFits, RegistryError
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.node.deployment.dry_run import DryRun
from pareta_agent.node.deployment.engine_sharing import engine_of, shares, wish_of
from pareta_agent.node.deployment.engine_spec import engine_order, guest_order, variant_of
from pareta_agent.node.deployment.placement import Places
from pareta_agent.node.deployment.plan_requests import need_of, needs_of, replicas_of
from pareta_agent.node.deployment.planner import Planner
from pareta_agent.node.deployment.start_recovery import StartRecovery
from pareta_agent.node.deployment.weight_pins import WeightPins
from pareta_agent.planning.describe import refusal, summary
from pareta_agent.planning.placement.pack import Need
from pareta_agent.planning.plan import Candidate, Plan, PlanReport
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.support import Support
from pareta_agent.telemetry.events import Emit, Phase
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Catalog
from pareta_registry.resolve import Resolution, engine_inputs, resolve


class Deployment:
    """Carries out the controller's decisions. `interpreter` installs the engine's interpreter once, before the first
    engine; `inventory` reads the node and blocks.

    Plans, reports and pins are keyed by engine name: an endpoint's own, or the shared base's.
    """

    def __init__(
        self,
        catalog: Catalog,
        inventory: Callable[[], Inventory],
        places: Places,
        weights: WeightsStore,
        fleet: Fleet,
        interpreter: Callable[[], Awaitable[None]],
        support: Callable[[], Support],
        request: Callable[[Resolution, Wanted], PlanRequest],
        recovery: StartRecovery,
        emit: Emit,
        may_sleep: Callable[[Wanted], bool],
        remote_code: bool = False,
    ) -> None:
        self._catalog, self._fleet = catalog, fleet
        self._interpreter, self._request, self._recovery, self._emit = interpreter, request, recovery, emit
        self._planner, self._places = Planner(inventory, support), places
        self._pins, self._remote_code = WeightPins(weights, lambda: self._catalog), remote_code
        self._may_sleep, self._expected = may_sleep, tuple[Wanted, ...]()
        self._bases, self._served = dict[str, str](), dict[str, tuple[str, str]]()
        self.reports: dict[str, PlanReport] = {}
        self.dry_run = DryRun(
            lambda: self._catalog,
            self._planner,
            places,
            fleet,
            request,
            lambda: recovery.measured,
            remote_code,
        )

    def catalog_changed(self, catalog: Catalog) -> list[str]:
        """Uses this catalog from now on. Returns the running endpoints with changed engine inputs."""
        before, self._catalog = self._catalog, catalog

        def changed(e: Wanted) -> bool:
            return engine_inputs(resolve(before, e.task, e.alias)) != engine_inputs(
                resolve(catalog, e.task, e.alias)
            )

        return [e.id for e in self._expected if e.state == "running" and changed(e)]

    def expect(self, wanted: Sequence[Wanted]) -> None:
        """Sets every desired endpoint; new endpoints share the free GPUs."""
        self._expected = tuple(wanted)
        self._share_out()

    async def deploy(self, wanted: Wanted) -> None:
        """Returns once the engines are under way. Raises AgentError when a start is impossible. Running engines of the
        same task and alias then go on, as long as the catalog has both.
        """
        try:
            if not self._serves(wanted):
                self._show(wanted, "deploying")
            await self._interpreter()
            await self._start(wanted)
            self._served[wanted.id] = (wanted.task, wanted.alias)
        except AgentError as error:
            if not self._serves(wanted):
                await self._end(wanted.id)
                self._show(wanted, "failed", f"the start failed ({error.code})")
            raise

    def _serves(self, wanted: Wanted) -> bool:
        view = self._fleet.view().endpoints.get(wanted.id)
        same = self._served.get(wanted.id) == (wanted.task, wanted.alias)
        same = same and isinstance(resolve(self._catalog, wanted.task, wanted.alias), Resolution)
        return same and view is not None and view.status in ("deploying", "live", "cold")

    async def begin(self, running: frozenset[str]) -> None:
        await self._fleet.end_adoptable(await self._engines(running))

    async def done(self, running: frozenset[str]) -> None:
        await self._fleet.end_adoptable(await self._engines(running))
        self._fleet.know_all()
        for engine in self._recovery.plans():
            self._recovery.moved(engine)

    async def _engines(self, running: frozenset[str]) -> frozenset[str]:
        """The engines of these endpoints; the name of a shared engine follows from the inputs of its plan."""
        found = {wanted.id: resolve(self._catalog, wanted.task, wanted.alias) for wanted in self._expected}
        if any(isinstance(each, Resolution) and shares(each) for each in found.values()):
            with contextlib.suppress(AgentError):  # a shared engine's name includes the version
                await self._interpreter()
        wanted = [each for each in self._expected if each.id in running]
        return running | {need.endpoint for need in needs_of(wanted, self._catalog, self._request)}

    async def stop(self, wanted: Wanted) -> None:
        await self._end(wanted.id)
        self._show(wanted, "stopped", "stopped by its owner")

    async def forget(self, endpoint: str) -> None:
        await self._end(endpoint)
        self._fleet.forget(endpoint)

    async def moved(self) -> list[str]:
        """Places replicas again after GPUs broke, recovered or became free. Returns the endpoints without a placement,
        already ended.
        """
        engines = [engine for engine in self._recovery.plans() if not self._recovery.moved(engine)]
        homeless = [
            endpoint for engine in engines for endpoint in self._fleet.endpoints_on(engine) or [engine]
        ]
        for endpoint in homeless:
            await self._end(endpoint)
        return homeless

    async def _end(self, endpoint: str) -> None:
        """Ends the endpoint's engines, frees the GPUs and releases the weights; an engine with further endpoints goes
        on.
        """
        engine = self._bases.pop(endpoint, endpoint)
        self._served.pop(endpoint, None)
        await self._fleet.remove(endpoint)
        self._pins.drop(endpoint)
        if engine in self._bases.values():
            return
        if engine != endpoint:
            await self._fleet.remove(engine)
            self._fleet.forget(engine)
        self.reports.pop(engine, None)
        self._recovery.forget(engine)
        self._planner.forget(engine)
        self._pins.drop(engine)

    async def _start(self, wanted: Wanted) -> None:
        resolution = self._resolve(wanted)
        request = self._request(resolution, wanted)
        wish = wish_of(resolution, request)
        engine = engine_of(wanted.id, resolution, wish)
        if (base := self._bases.get(wanted.id, engine)) != engine:
            await self.dry_run.require_fit(resolution, request, base)
            await self._end(wanted.id)
        if not (shares(resolution) and self._fleet.is_reusable(engine)):
            await self._run(engine, wanted, resolution, request, wish)
        if shares(resolution):
            fetch = self._pins.fetch(wanted.id, resolution.adapter) if resolution.adapter else None
            await self._fleet.attach(guest_order(wanted, resolution, engine, fetch))
            self._bases[wanted.id] = engine
        self._fleet.retry(wanted.id)

    async def _run(
        self, engine: str, wanted: Wanted, resolution: Resolution, request: PlanRequest, wish: str
    ) -> None:
        """Plans and starts the engines; raises NothingFits, or RegistryError for code that is not trusted."""
        code = trusts_code(resolution, self._remote_code)
        chosen = await self._plan(engine, wanted, resolution, request, wish)
        while not await self._places.vacated(engine, chosen):
            chosen = await self._plan(engine, wanted, resolution, request, wish)
        fetch = self._pins.fetch(engine, variant_of(resolution, chosen), code=code)

        def may_sleep() -> bool:
            return self._may_sleep(wanted) and self._places.keeps_apart(chosen)

        spec = engine_order(engine, wanted, resolution, chosen, fetch, wish, code=code, may_sleep=may_sleep)
        self._recovery.deployed(spec, self.reports[engine])
        self._share_out()
        await self._fleet.want(spec)

    def _share_out(self) -> None:
        """Sends the fleet every replica that will share the host's cores. Without an interpreter the name of a shared
        engine is unknown.
        """
        self._fleet.expect(replicas_of(needs_of(self._expected, self._catalog, self._request)))

    def _resolve(self, wanted: Wanted) -> Resolution:
        self._emit(Phase(wanted.id, "resolve", "started"))
        try:
            found = find(self._catalog, wanted.task, wanted.alias)
        except RegistryError as error:
            self._emit(Phase(wanted.id, "resolve", "failed", detail=error.message))
            raise
        self._emit(Phase(wanted.id, "resolve", "done", 0.0, detail=f"{found.task.id} → {found.alias.id}"))
        return found

    async def _plan(
        self, engine: str, wanted: Wanted, resolution: Resolution, request: PlanRequest, wish: str
    ) -> Plan:
        """The plan of an earlier agent's engines with an equal fingerprint, otherwise a new plan."""
        self._emit(Phase(wanted.id, "plan", "started"))
        begun_s = time.perf_counter()
        if (kept := await self._fleet.adoptable_plan(engine, wish)) is not None:
            report = PlanReport((Candidate(kept.plan, 0.0, "already running"),), ())
            self._planner.adopted(engine, kept.gpu_free_bytes)
        else:
            report = await self._best_beside(need_of(wanted, resolution, request))
        if report.best is not None or not self._fleet.runs(engine):
            self.reports[engine] = report
        seconds = time.perf_counter() - begun_s
        if report.best is None:
            said = refusal(report)
            self._emit(Phase(wanted.id, "plan", "failed", seconds, detail=said))
            raise NothingFits(
                "nothing_fits",
                said,
                f"`pareta-agent plan {wanted.task}/{wanted.alias}` shows every rejection",
            )
        self._emit(Phase(wanted.id, "plan", "done", seconds, detail=summary(report.best)))
        return report.best

    async def _best_beside(self, need: Need) -> PlanReport:
        """A report for free GPUs. Where none fits: for GPUs of sleeping engines too, with no more replicas than
        requested.
        """
        places, measured = self._places, self._recovery.measured
        running, asleep = places.running(but=need.endpoint), places.asleep(but=need.endpoint)
        leaving = places.leaving(but=need.endpoint)
        needs = [need, *self._undecided(need.endpoint, running)]
        report = await self._planner.report(needs, asleep | running, measured, leaving)
        if report.best is None and asleep:
            least = replace(need.request, replicas=need.request.replicas or 1)
            report = await self._planner.report([replace(need, request=least)], running, measured, leaving)
        return report

    def _undecided(self, engine: str, running: Mapping[str, Plan]) -> list[Need]:
        """The plan requests of desired endpoints without a placement."""
        decided = {engine, *running, *self.reports}
        needs = needs_of(self._expected, self._catalog, self._request)
        return [need for need in needs if need.endpoint not in decided]

    def _show(self, wanted: Wanted, status: EndpointStatus, reason: str | None = None) -> None:
        resolution = resolve(self._catalog, wanted.task, wanted.alias)
        alias = resolution.alias.id if isinstance(resolution, Resolution) else wanted.alias
        self._fleet.set_status(
            EndpointView(
                wanted.id, wanted.org, wanted.task, alias, status, reason=reason, created_s=wanted.created_s
            )
        )

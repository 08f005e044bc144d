"""Carries out what the controller decided: resolve, plan, and hand the engine room its specification."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pareta_agent.control import wire
from pareta_agent.control.offer import find
from pareta_agent.control.reconcile import Wanted
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.spec import EngineSpec, Fetch, FetchProgress
from pareta_agent.engine.view import EndpointStatus, EndpointView
from pareta_agent.errors import AgentError, NothingFits, RegistryError
from pareta_agent.hardware.inventory import Inventory
from pareta_agent.node.healer import Healer
from pareta_agent.node.planner import Planner
from pareta_agent.planning.pack import Need
from pareta_agent.planning.place import seats
from pareta_agent.planning.plan import Candidate, Plan, PlanReport
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support import Support
from pareta_agent.telemetry.events import Emit, Phase
from pareta_agent.weights.settings import WeightsProgress
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Catalog, Variant
from pareta_registry.resolve import Resolution, essence, resolve

GIB = 2**30
_HOLDS = ("deploying", "live")


class Deployment:
    """The controller's hands. `interpreter` makes the engine's interpreter once, before the first engine;
    `inventory` reads the node and blocks, `latest` is what was read last.
    """

    def __init__(
        self,
        catalog: Catalog,
        inventory: Callable[[], Inventory],
        latest: Callable[[], Inventory],
        weights: WeightsStore,
        fleet: Fleet,
        interpreter: Callable[[], Awaitable[None]],
        support: Callable[[], Support],
        request: Callable[[Resolution, Wanted], PlanRequest],
        healer: Healer,
        emit: Emit,
    ) -> None:
        self._catalog, self._weights, self._fleet = catalog, weights, fleet
        self._interpreter, self._request, self._healer, self._emit = interpreter, request, healer, emit
        self._planner, self._latest = Planner(inventory, support), latest
        self._expected: tuple[Wanted, ...] = ()
        self._pinned: dict[str, str] = {}
        self.reports: dict[str, PlanReport] = {}

    def offer(self, catalog: Catalog) -> list[str]:
        """Goes by this catalog from now on. Answers the wanted endpoints that it makes of something else."""
        before, self._catalog = self._catalog, catalog
        return [
            entry.id
            for entry in self._expected
            if entry.state == "running"
            and essence(resolve(before, entry.task, entry.alias))
            != essence(resolve(catalog, entry.task, entry.alias))
        ]

    def expect(self, wanted: Sequence[Wanted]) -> None:
        """The whole of what will be deployed: those that are new share what is free."""
        self._expected = tuple(wanted)

    async def deploy(self, wanted: Wanted) -> None:
        """Returns once the engines are under way; raises AgentError when they cannot even be started."""
        try:
            self._show(wanted, "deploying")
            await self._interpreter()
            await self._start(wanted)
        except AgentError as error:
            await self._end(wanted.id)  # what ran is not what is wanted
            self._show(wanted, "failed", f"it could not be started ({error.code})")
            raise

    async def begin(self, running: frozenset[str]) -> None:
        await self._fleet.end_survivors(running)

    async def done(self, running: frozenset[str]) -> None:
        await self._fleet.end_survivors(running)
        self._fleet.know_all()
        for endpoint in self.plans():
            self._healer.moved(endpoint)

    async def stop(self, wanted: Wanted) -> None:
        await self._end(wanted.id)
        self._show(wanted, "stopped", "stopped by its owner")

    async def forget(self, endpoint: str) -> None:
        await self._end(endpoint)
        self._fleet.forget(endpoint)

    async def moved(self) -> list[str]:
        """GPUs broke, recovered or were freed: each endpoint's replicas go where they may be. Answers those that have
        no place left, ended.
        """
        homeless = [endpoint for endpoint in self.plans() if not self._healer.moved(endpoint)]
        for endpoint in homeless:
            await self._end(endpoint)
        return homeless

    def seats(self, endpoint: str, plan: Plan, replicas: int) -> tuple[tuple[str, ...], ...]:
        """Where this endpoint's plan may run now: on what it has, or on what nobody has, asleep or not."""
        plans = self.plans()
        own = _gpus({endpoint: plans[endpoint]}) if endpoint in plans else frozenset()
        others = _gpus({name: each for name, each in plans.items() if name != endpoint})
        return seats(plan, replicas, self._latest(), others - own)

    async def _end(self, endpoint: str) -> None:
        """Its engines end, its GPUs are free, its weights may be evicted."""
        await self._fleet.unwant(endpoint)
        self.reports.pop(endpoint, None)
        self._healer.forget(endpoint)
        self._planner.forget(endpoint)
        if (digest := self._pinned.pop(endpoint, None)) is not None:
            self._weights.unpin(digest)

    async def _start(self, wanted: Wanted) -> None:
        resolution = self._resolve(wanted)
        request = self._request(resolution, wanted)
        wish = wish_of(resolution, request)
        chosen = await self._plan(wanted, resolution, request, wish)
        variant = next(v for v in resolution.model.variants if v.name == chosen.variant)
        spec = EngineSpec(
            endpoint=wanted.id,
            org=wanted.org,
            task=wanted.task,
            alias=resolution.alias.id,
            plan=chosen,
            fetch=self._fetch(wanted.id, variant),
            revision=variant.artifact,
            canaries=resolution.model.canaries,
            system_prompt=resolution.task.system_prompt if wanted.inject_system_prompt else None,
            created_s=wanted.created_s,
            wish=wish,
        )
        self._healer.deployed(spec, self.reports[wanted.id])
        await self._fleet.want(spec)
        self._fleet.retry(wanted.id)

    def _resolve(self, wanted: Wanted) -> Resolution:
        self._emit(Phase(wanted.id, "resolve", "started"))
        try:
            found = find(self._catalog, wanted.task, wanted.alias)
        except RegistryError as error:
            self._emit(Phase(wanted.id, "resolve", "failed", detail=error.message))
            raise
        self._emit(Phase(wanted.id, "resolve", "done", 0.0, detail=f"{found.task.id} → {found.alias.id}"))
        return found

    async def judge(self, question: wire.PlanQuestion) -> wire.PlanVerdict:
        """Would it run here now, beside what runs? Plans and throws the plan away."""
        wanted = Wanted(question.id, "", question.task, question.alias, "running")
        try:
            resolution = find(self._catalog, wanted.task, wanted.alias)
        except RegistryError as error:
            return wire.PlanVerdict(id=question.id, verdict="never", reason=error.message)
        request = self._request(resolution, wanted)
        report = await self._report(resolution, request, _gpus(self._running(but=wanted.id)))
        if report.best is not None:
            return wire.PlanVerdict(id=question.id, verdict="fits", reason=summary(report.best))
        taken = bool(_gpus(self._running(but=wanted.id)))
        alone = taken and (await self._report(resolution, request, frozenset())).best is not None
        verdict: Literal["busy", "never"] = "busy" if alone else "never"
        reason = "every GPU that it would fit on is taken" if alone else refusal(report)
        return wire.PlanVerdict(id=question.id, verdict=verdict, reason=reason)

    async def _report(
        self, resolution: Resolution, request: PlanRequest, taken: frozenset[str]
    ) -> PlanReport:
        model = resolution.model
        need = Need("", model.architecture, model.variants, request)
        return await self._planner.judge(need, taken, self._healer.measured)

    async def _plan(self, wanted: Wanted, resolution: Resolution, request: PlanRequest, wish: str) -> Plan:
        """What an earlier agent's engines still run for the same wish goes on; else a new plan."""
        self._emit(Phase(wanted.id, "plan", "started"))
        begun_s = time.perf_counter()
        if (kept := await self._fleet.surviving_plan(wanted.id, wish)) is not None:
            report = PlanReport((Candidate(kept.plan, 0.0, "it runs already"),), ())
            self._planner.adopted(wanted.id, kept.gpu_free_bytes)
        else:
            running = self._running(but=wanted.id)
            model = resolution.model
            need = Need(wanted.id, model.architecture, model.variants, request)
            needs = [need, *self._undecided(wanted.id, running)]
            report = await self._planner.report(needs, running, self._healer.measured)
        self.reports[wanted.id] = report
        seconds = time.perf_counter() - begun_s
        if report.best is None:
            said = refusal(report)
            self._emit(Phase(wanted.id, "plan", "failed", seconds, detail=said))
            raise NothingFits(
                "nothing_fits", said, f"`pareta-agent plan {wanted.task}/{wanted.alias}` shows all of it"
            )
        self._emit(Phase(wanted.id, "plan", "done", seconds, detail=summary(report.best)))
        return report.best

    def _need(self, wanted: Wanted, resolution: Resolution) -> Need:
        model = resolution.model
        return Need(wanted.id, model.architecture, model.variants, self._request(resolution, wanted))

    def _undecided(self, endpoint: str, running: Mapping[str, Plan]) -> list[Need]:
        """What is to be deployed beside this endpoint and has no place yet, as far as the catalog knows it."""
        found = []
        for other in self._expected:
            if other.id == endpoint or other.id in running or other.state != "running":
                continue
            resolution = resolve(self._catalog, other.task, other.alias)
            if isinstance(resolution, Resolution) and other.id not in self.reports:
                found.append(self._need(other, resolution))
        return found

    def _running(self, but: str) -> dict[str, Plan]:
        """The plans of other endpoints that have engines."""
        shown = self._fleet.view().endpoints
        return {
            e: p for e, p in self.plans().items() if e != but and e in shown and shown[e].status in _HOLDS
        }

    def plans(self) -> dict[str, Plan]:
        """What each endpoint runs by now: the planner's word, mended by failed starts and broken GPUs."""
        return {e: spec.plan for e in self.reports if (spec := self._healer.spec(e)) is not None}

    def _fetch(self, endpoint: str, variant: Variant) -> Fetch:
        """Each start fetches; an endpoint holds one pin, on what it fetched last."""

        async def fetch(progress: FetchProgress) -> Path:
            def told(step: WeightsProgress) -> None:
                progress(step.phase, step.done_bytes, step.total_bytes)

            path = await self._weights.fetch(self._as_of_now(variant), told)
            if (before := self._pinned.get(endpoint)) is not None:
                self._weights.unpin(before)
            self._pinned[endpoint] = variant.artifact
            return path

        return fetch

    def _as_of_now(self, variant: Variant) -> Variant:
        """The same bytes from where the present catalog has them: a store may move while an endpoint lives."""
        offered = (each for model in self._catalog.models for each in model.variants)
        return next((each for each in offered if each.artifact == variant.artifact), variant)

    def _show(self, wanted: Wanted, status: EndpointStatus, reason: str | None = None) -> None:
        resolution = resolve(self._catalog, wanted.task, wanted.alias)
        alias = resolution.alias.id if isinstance(resolution, Resolution) else wanted.alias
        self._fleet.set_status(
            EndpointView(
                wanted.id, wanted.org, wanted.task, alias, status, reason=reason, created_s=wanted.created_s
            )
        )


def _gpus(running: Mapping[str, Plan]) -> frozenset[str]:
    return frozenset(uuid for plan in running.values() for group in plan.gpus for uuid in group)


def wish_of(resolution: Resolution, request: PlanRequest) -> str:
    """Names what a plan is made from, but for the hardware: equal names may share a running engine."""
    offered = [(variant.name, variant.artifact) for variant in resolution.model.variants]
    return hashlib.sha256(repr((resolution.alias.id, offered, request)).encode()).hexdigest()


def refusal(report: PlanReport) -> str:
    """The nearest miss of a report, with its arithmetic."""
    if not report.rejections:
        return "nothing fits here: the catalog offers no variant for this hardware"
    told = []
    for rejection in report.rejections[:3]:
        sums = ""
        if rejection.need_bytes is not None and rejection.have_bytes is not None:
            sums = f" (needs {rejection.need_bytes / GIB:.1f} GiB, has {rejection.have_bytes / GIB:.1f} GiB)"
        nearest = f"; fits: {rejection.nearest}" if rejection.nearest else ""
        told.append(f"{rejection.candidate}: {rejection.reason}{sums}{nearest}")
    return "nothing fits here: " + "; ".join(told)


def summary(chosen: Plan) -> str:
    """A plan in one line for people: no weights id, no path."""
    where = "CPU" if chosen.platform == "cpu" else f"{sum(len(g) for g in chosen.gpus)} GPU"
    layout = (
        "" if chosen.platform == "cpu" else f", tp {chosen.tp} × pp {chosen.pp} × {chosen.replicas} replicas"
    )
    return (
        f"{where}, {chosen.variant}{layout}, context {chosen.max_model_len:,}, {chosen.kv_tokens:,} KV tokens"
    )

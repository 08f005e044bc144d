"""Dry run: plans an endpoint on this node without a start, for plan queries, prefetch and a change of engines."""

from __future__ import annotations

from collections.abc import Callable

from pareta_agent.catalog.source import find, trusts_code
from pareta_agent.contract import wire
from pareta_agent.control.reconcile import Wanted
from pareta_agent.engine.fleet import Fleet
from pareta_agent.errors import RegistryError
from pareta_agent.node.deployment.engine_sharing import shares
from pareta_agent.node.deployment.engine_spec import variant_of
from pareta_agent.node.deployment.placement import Places, gpus_of
from pareta_agent.node.deployment.plan_requests import Ask, need_of
from pareta_agent.node.deployment.planner import Planner
from pareta_agent.planning.describe import fitting, refusal, summary
from pareta_agent.planning.memory.measured import Measured
from pareta_agent.planning.placement.pack import Need
from pareta_agent.planning.plan import PlanReport
from pareta_agent.planning.request import PlanRequest
from pareta_registry.catalog import Artifact, Catalog
from pareta_registry.resolve import Resolution


class DryRun:
    """`catalog` and `measured` return present values. No method changes a plan, an engine or a GPU's owner."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        planner: Planner,
        places: Places,
        fleet: Fleet,
        request: Ask,
        measured: Callable[[], Measured],
        remote_code: bool,
    ) -> None:
        self._catalog, self._planner, self._places, self._fleet = catalog, planner, places, fleet
        self._request, self._measured, self._remote_code = request, measured, remote_code

    async def judge(self, question: wire.PlanQuestion) -> wire.PlanVerdict:
        """Plans the endpoint beside the running engines and discards the plan."""
        wanted = Wanted(question.id, "", question.task, question.alias, "running")
        try:
            resolution = find(self._catalog(), wanted.task, wanted.alias)
            trusts_code(resolution, self._remote_code)
        except RegistryError as error:
            return wire.PlanVerdict(id=question.id, verdict="never", reason=error.message)
        request = self._request(resolution, wanted)
        if shares(resolution) and self._fleet.is_reusable(need_of(wanted, resolution, request).endpoint):
            return wire.PlanVerdict(id=question.id, verdict="fits", reason="on a running engine")
        report = await self._report(resolution, request, gpus_of(self._places.running(but=wanted.id)))
        if report.best is not None:
            return wire.PlanVerdict(id=question.id, verdict="fits", reason=summary(report.best))
        taken = bool(gpus_of(self._places.running(but=wanted.id)))
        alone = taken and (await self._report(resolution, request, frozenset())).best is not None
        reason = "every GPU that fits is taken" if alone else refusal(report)
        return wire.PlanVerdict(id=question.id, verdict="busy" if alone else "never", reason=reason)

    async def parts(self, wanted: Wanted) -> list[tuple[Artifact, bool]]:
        """The artifacts that a start would fetch on this node with every GPU free; raises AgentError where a start is
        impossible.
        """
        resolution = find(self._catalog(), wanted.task, wanted.alias)
        code, request = trusts_code(resolution, self._remote_code), self._request(resolution, wanted)
        best = fitting(await self._report(resolution, request, frozenset()), "choose another alias")
        return [
            (variant_of(resolution, best), code),
            *([(resolution.adapter, False)] if resolution.adapter else []),
        ]

    async def require_fit(self, resolution: Resolution, request: PlanRequest, base: str) -> None:
        """Raises unless the endpoint fits after leaving this base, which may end the base."""
        trusts_code(resolution, self._remote_code)
        ends = base if len(self._fleet.endpoints_on(base)) == 1 else ""
        taken = gpus_of(self._places.running(but=ends))
        fitting(await self._report(resolution, request, taken), "stop another endpoint to free GPUs")

    async def _report(
        self, resolution: Resolution, request: PlanRequest, taken: frozenset[str]
    ) -> PlanReport:
        model = resolution.model
        need = Need("", model.architecture, model.variants, request)
        return await self._planner.judge(need, taken, self._measured(), self._places.leaving(""))

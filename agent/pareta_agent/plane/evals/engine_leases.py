"""Engine lease: finds an endpoint of the org for an eval run, or deploys a temporary endpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from starlette.concurrency import run_in_threadpool

from pareta_agent.plane.evals.model_client import ModelAddress
from pareta_agent.plane.evals.runs import EvalCandidate, EvalRun, Runs
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.seed import price_of
from pareta_agent.plane.store.deployments import Deployed, DeployOrder
from pareta_agent.plane.store.endpoint_status import standing_of
from pareta_agent.plane.store.nodes import NodeReport
from pareta_registry.catalog import Alias

LOOK_EVERY_S: Final = 0.5
PATIENCE_S: Final = 900.0  # for running endpoints to free devices
START_S: Final = 3600.0
VERDICT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class NoEngine:
    """The reason why a model cannot be called, for the run's owner."""

    reason: str


class EngineLeases:
    def __init__(self, plane: Plane, runs: Runs) -> None:
        self._plane, self._runs = plane, runs

    async def get(self, run: EvalRun, candidate: EvalCandidate, alias: Alias) -> ModelAddress | NoEngine:
        """Returns the model's address with a key for that endpoint alone; continues a deploy from before a restart."""
        found = await run_in_threadpool(self._serving, run, candidate)
        if found is None:
            deployed = await self._deploy(run, candidate, alias)
            if isinstance(deployed, NoEngine):
                return deployed
            found = deployed
        url = await self._live(run, found)
        if isinstance(url, NoEngine):
            return url
        key = await run_in_threadpool(self._key, run, candidate, found.id)
        return ModelAddress(url, found.id, key)

    async def now(self, place: ModelAddress) -> ModelAddress:
        """Returns the same model at the present address: a restarted node may have another address."""
        reports = await run_in_threadpool(self._plane.nodes.reports)
        urls = [each.front_url for each in reports if each.front_url and _serves(each, place.model)]
        return place if place.base_url in urls or not urls else replace(place, base_url=urls[0])

    async def release(self, run: EvalRun, candidate: EvalCandidate) -> None:
        """Removes the candidate's key, and the endpoint if the run deployed the endpoint."""
        await run_in_threadpool(self._release, run, candidate)

    async def sweep(self) -> None:
        """Removes eval endpoints that no run uses, left by a crash."""
        await run_in_threadpool(self._sweep)

    def _serving(self, run: EvalRun, candidate: EvalCandidate) -> Deployed | None:
        """Returns the candidate's own endpoint, or an endpoint of the org with this model."""
        deployments = self._plane.deployments
        if candidate.endpoint is not None:
            kept = deployments.find(run.org, candidate.endpoint)
            if kept is not None and kept.state == "running":
                return kept
        for each in deployments.of(run.org):
            if (each.task, each.alias, each.state) == (run.task, candidate.model, "running"):
                self._runs.update(candidate, endpoint=each.id, ours=False)
                return each
        return None

    async def _deploy(self, run: EvalRun, candidate: EvalCandidate, alias: Alias) -> Deployed | NoEngine:
        plane, begun_s = self._plane, self._plane.clock.mono_s()
        while True:
            nodes = [each.node for each in await run_in_threadpool(plane.nodes.reports)]
            verdict = await plane.plan_queries.ask(nodes, run.task, alias.id, VERDICT_S)
            if nodes and (verdict is None or verdict.verdict == "fits"):
                break
            if verdict is not None and verdict.verdict == "never":
                return NoEngine(verdict.reason)
            if plane.clock.mono_s() - begun_s > PATIENCE_S:
                return NoEngine(verdict.reason if verdict else "no node is available to run the endpoint")
            await plane.clock.sleep(LOOK_EVERY_S * 10)
        order = DeployOrder(run.org, run.task, alias.id, f"eval_{alias.id}", price_of(alias), purpose="eval")
        made = await run_in_threadpool(plane.deployments.create, order)
        assert made is not None  # without a name, none can be taken
        await run_in_threadpool(self._runs.update, candidate, endpoint=made.id, ours=True)
        return made

    async def _live(self, run: EvalRun, wanted: Deployed) -> str | NoEngine:
        """Waits until a node serves the endpoint, and returns the node's address."""
        plane, begun_s = self._plane, self._plane.clock.mono_s()
        while plane.clock.mono_s() - begun_s < START_S:
            found = await run_in_threadpool(plane.deployments.find, run.org, wanted.id)
            if found is None or found.state != "running":
                return NoEngine("the endpoint was stopped or deleted meanwhile")
            reports = await run_in_threadpool(plane.nodes.reports)
            standing = standing_of(found.id, found.state, found.revision, [each.observed for each in reports])
            if standing.status == "failed":
                return NoEngine(standing.reason or "the endpoint could not be started")
            url = next(
                (each.front_url for each in reports if each.front_url and _serves(each, found.id)), None
            )
            if standing.callable and url is not None:
                return url
            await plane.clock.sleep(LOOK_EVERY_S)
        return NoEngine("the endpoint was not live in time")

    def _key(self, run: EvalRun, candidate: EvalCandidate, endpoint: str) -> str:
        self._revoke(candidate)
        minted = self._plane.keys.mint(run.org, only=[endpoint])
        self._runs.update(candidate, key_id=minted.id)
        return minted.secret

    def _release(self, run: EvalRun, candidate: EvalCandidate) -> None:
        kept = next(each for each in self._runs.candidates(run.id) if each.place == candidate.place)
        self._revoke(kept)
        if kept.ours and kept.endpoint is not None:
            self._plane.deployments.set_state(run.org, kept.endpoint, "deleted")

    def _revoke(self, candidate: EvalCandidate) -> None:
        if candidate.key_id is not None:
            self._plane.keys.revoke(candidate.key_id)

    def _sweep(self) -> None:
        used = self._runs.endpoints_in_use()
        for org, _ in self._plane.orgs.rows():
            for each in self._plane.deployments.of(org, "eval"):
                if each.id not in used:
                    self._plane.deployments.set_state(org, each.id, "deleted")


def _serves(report: NodeReport, endpoint: str) -> bool:
    reported = report.observed.endpoints if report.observed else []
    return any(each.id == endpoint and each.status in ("live", "cold") for each in reported)

"""Weight pins: protects the artifacts of running engines and adapters from eviction, a pin per holder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pareta_agent.engine.spec import Fetch, FetchProgress
from pareta_agent.weights.settings import WeightsProgress
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Artifact, Catalog


class WeightPins:
    """`catalog` returns the present catalog: a store may move during an endpoint's life."""

    def __init__(self, weights: WeightsStore, catalog: Callable[[], Catalog]) -> None:
        self._weights, self._catalog = weights, catalog
        self._held: dict[str, str] = {}

    def fetch(self, holder: str, artifact: Artifact, *, code: bool = False) -> Fetch:
        """A fetch from the artifact's present store, called at each start."""

        async def fetch(progress: FetchProgress) -> Path:
            def reported(step: WeightsProgress) -> None:
                progress(step.phase, step.done_bytes, step.total_bytes)

            path = await self._weights.fetch(self._as_of_now(artifact), reported, code=code)
            self.drop(holder)
            self._held[holder] = artifact.artifact
            return path

        return fetch

    def drop(self, holder: str) -> None:
        if (digest := self._held.pop(holder, None)) is not None:
            self._weights.unpin(digest)

    def _as_of_now(self, artifact: Artifact) -> Artifact:
        offered: list[Artifact] = []
        for model in self._catalog().models:
            offered += [*model.variants, *model.adapters]
        return next((each for each in offered if each.artifact == artifact.artifact), artifact)

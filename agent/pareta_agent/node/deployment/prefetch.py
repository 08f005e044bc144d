"""Prefetch: fetches weights before a start requires them, an artifact at a time, while no endpoint waits for weights.

The desired state and the catalog determine the aliases; the planner determines the variant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pareta_agent.clock import Clock
from pareta_agent.control.reconcile import Wanted
from pareta_agent.errors import AgentError
from pareta_agent.settings import RegistrySection
from pareta_agent.telemetry.events import Emit, Event
from pareta_agent.weights.settings import WeightsProgress
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Artifact, Catalog
from pareta_registry.resolve import Resolution, resolve

LOOK_S, RETRY_S = 5.0, 120.0
State = Literal["waiting", "fetching", "here", "refused"]


@dataclass(frozen=True, slots=True)
class Ahead:
    """The prefetch state of a task's alias; `total_bytes` is None until the first request to the store."""

    task: str
    alias: str
    state: State = "waiting"
    done_bytes: int = 0
    total_bytes: int | None = None
    reason: str | None = None


Names = tuple[str, str]
Parts = Callable[[Wanted], Awaitable[Sequence[tuple[Artifact, bool]]]]
"""The artifacts that a start fetches, each with True if it may hold code; raises AgentError without a start."""


def names_ahead(
    catalog: Catalog, wanted: Iterable[Wanted], asked: Sequence[str], follow: bool
) -> list[Names]:
    """The (task, alias) pairs to prefetch, in order: the operator's `asked` aliases first. With `follow`: aliases of
    stopped endpoints and the recommended aliases of running tasks. Pure.
    """
    wanted = list(wanted)
    found: dict[Names, None] = {}
    pairs = [(task, alias or None) for task, _, alias in (each.partition("/") for each in asked)]
    if follow:
        pairs += [(e.task, e.alias) for e in wanted if e.state == "stopped"]
        pairs += [(e.task, None) for e in wanted if e.state == "running"]
    running = {_alias(catalog, e.task, e.alias) for e in wanted if e.state == "running"}
    for task, alias in pairs:
        if (names := _alias(catalog, task, alias)) not in running:
            found[names] = None
    return list(found)


def _alias(catalog: Catalog, task: str, alias: str | None) -> Names:
    resolution = resolve(catalog, task, alias)
    return (task, resolution.alias.id if isinstance(resolution, Resolution) else alias or "recommended")


class Prefetcher:
    """`catalog` and `wanted` return present values. Fetched artifacts stay pinned until no longer named, or until an
    endpoint requires the disk space.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        wanted: Callable[[], Iterable[Wanted]],
        settings: RegistrySection,
        parts: Parts,
        weights: WeightsStore,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._catalog, self._wanted, self._settings = catalog, wanted, settings
        self._parts, self._weights = parts, weights
        self._clock, self._emit = clock, emit
        self._found: dict[Names, Ahead] = {}
        self._held: dict[Names, list[str]] = {}
        self._again_s: dict[Names, float] = {}
        self.fetched_bytes = 0

    def view(self) -> tuple[Ahead, ...]:
        return tuple(self._found.values())

    def status(self) -> list[dict[str, Any]]:
        """For `status`: plain values, no weights id."""
        return [asdict(each) for each in self.view()]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Forgets aliases no longer named and fetches missing artifacts."""
        of = self._settings
        names = names_ahead(self._catalog(), self._wanted(), of.prefetch, of.prefetch_wanted)
        for gone in self._found.keys() - set(names):
            self._forget(gone)
        for each in names:
            self._found.setdefault(each, Ahead(*each))
        for each in names:
            if not self._is_here(each) and self._clock.mono_s() >= self._again_s.get(each, 0.0):
                await self._bring(each)

    def _is_here(self, names: Names) -> bool:
        return self._found[names].state == "here" and all(map(self._weights.has, self._held[names]))

    async def _bring(self, names: Names) -> None:
        try:
            parts = await self._parts(Wanted("", "", *names, "stopped"))
            self._held[names] = [artifact.artifact for artifact, _ in parts]
            for artifact, code in parts:
                await self._weights.prefetch(artifact, lambda step: self._reported(names, step), code=code)
        except AgentError as error:
            self._refused(names, error)
            return
        self._again_s.pop(names, None)
        self._found[names] = replace(self._found[names], state="here", reason=None)
        self._emit(Event("prefetched", fields={"task": names[0], "alias": names[1]}))

    def _reported(self, names: Names, step: WeightsProgress) -> None:
        before = self._found[names]
        grown = step.done_bytes - before.done_bytes if step.total_bytes == before.total_bytes else 0
        self.fetched_bytes += max(0, grown) if step.phase == "fetch" else 0
        self._found[names] = Ahead(*names, "fetching", step.done_bytes, step.total_bytes)

    def _refused(self, names: Names, error: AgentError) -> None:
        before = self._found[names]
        self._again_s[names] = self._clock.mono_s() + RETRY_S
        self._found[names] = replace(before, state="refused", reason=error.message)
        if before.state != "refused":
            fields = {"task": names[0], "alias": names[1], "code": error.code, "remedy": error.remedy}
            self._emit(Event("prefetch_refused", "warning", {**fields, "reason": error.message}))

    def _forget(self, names: Names) -> None:
        del self._found[names]
        self._again_s.pop(names, None)
        kept = {digest for other, held in self._held.items() if other != names for digest in held}
        for digest in self._held.pop(names, []):
            if digest not in kept:
                self._weights.release(digest)

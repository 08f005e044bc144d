"""Weights that are here before they are needed: which, in what order, and what happens when they cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.artifact import random_files, write_artifact

from pareta_agent.clock import SystemClock
from pareta_agent.control.reconcile import Wanted
from pareta_agent.errors import NothingFits
from pareta_agent.node.deployment.prefetch import RETRY_S, Prefetcher, names_ahead
from pareta_agent.settings import RegistrySection
from pareta_agent.telemetry.events import Event, Phase
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.catalog import Artifact
from pareta_registry.load import builtin_catalog

CATALOG = builtin_catalog()
(TASK, *_) = CATALOG.tasks
BEST = (TASK.id, TASK.recommended)


def wanted(state: str, alias: str = "recommended") -> Wanted:
    return Wanted("ep_a", "org", TASK.id, alias, state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("endpoints", "asked", "follow", "expected"),
    [
        ([], (), True, []),
        ([wanted("stopped", TASK.recommended)], (), True, [BEST]),
        ([wanted("stopped", TASK.recommended)], (), False, []),
        ([wanted("running", TASK.recommended)], (TASK.id,), True, []),
        ([wanted("running", "older-1")], (), True, [BEST]),
        ([], (TASK.id, f"{TASK.id}/{TASK.recommended}"), False, [BEST]),
        ([], ("no-such-task",), False, [("no-such-task", "recommended")]),
    ],
)
def test_what_is_wanted_ahead(
    endpoints: Sequence[Wanted], asked: Sequence[str], follow: bool, expected: object
) -> None:
    """The operator's list, stopped endpoints, and what became recommended; never what runs."""
    assert expected == names_ahead(CATALOG, endpoints, asked, follow)


class Rig:
    def __init__(self, root: Path) -> None:
        self.settings = WeightsSettings(root / "weights", root / "cache", reserve_bytes=0)
        self.weights = WeightsStore(self.settings)
        self.wanted = [wanted("stopped", TASK.recommended)]
        self.artifact = write_artifact(root / "artifact", random_files({"model.safetensors": 9000}))
        self.events: list[str] = []
        self.refuses = self.asked = 0
        self.now_s = 0.0
        self.prefetcher = Prefetcher(
            lambda: CATALOG,
            lambda: self.wanted,
            RegistrySection(),
            self.parts,
            self.weights,
            self,
            self.heard,
        )

    def wall_s(self) -> float:
        return self.now_s

    mono_s = boot_s = wall_s
    sleep = SystemClock().sleep

    def heard(self, event: Phase | Event) -> None:
        if isinstance(event, Event):
            self.events.append(event.name)

    async def parts(self, of: Wanted) -> Sequence[tuple[Artifact, bool]]:
        self.asked += 1
        if self.refuses:
            raise NothingFits("nothing_fits", "too large for this node", "another alias")
        return [(self.artifact, False)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_it_is_brought_once_and_let_go_when_nobody_names_it(rig: Rig) -> None:
    """Pinned while it is named: not evicted by what is not urgent, and told in bytes."""
    for _ in range(2):
        await rig.prefetcher.look()
    (one,) = rig.prefetcher.view()
    assert (one.state, one.done_bytes, one.total_bytes, rig.asked) == ("here", 9000, 9000, 1)
    assert (rig.events, rig.prefetcher.fetched_bytes) == (["prefetched"], 9000)
    assert rig.artifact.artifact not in str(rig.prefetcher.status())
    assert not await rig.weights.remove(rig.artifact.artifact)
    rig.wanted = []
    await rig.prefetcher.look()
    assert rig.prefetcher.view() == ()
    assert await rig.weights.remove(rig.artifact.artifact)


async def test_a_refusal_is_told_once_and_tried_again(rig: Rig) -> None:
    """What cannot be here says why, and is asked for again after a while."""
    rig.refuses = 1
    for _ in range(3):
        await rig.prefetcher.look()
    (one,) = rig.prefetcher.view()
    assert (one.state, one.reason, rig.asked) == ("refused", "too large for this node", 1)
    rig.refuses, rig.now_s = 0, RETRY_S
    await rig.prefetcher.look()
    assert rig.events == ["prefetch_refused", "prefetched"]


async def test_what_was_evicted_comes_again(rig: Rig) -> None:
    """An endpoint that needed the room took it; with room again the weights return."""
    await rig.prefetcher.look()
    rig.weights.release(rig.artifact.artifact)
    assert await rig.weights.remove(rig.artifact.artifact)
    await rig.prefetcher.look()
    assert rig.weights.has(rig.artifact.artifact)

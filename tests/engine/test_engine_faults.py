"""Real engines that are killed, frozen and stopped: the cases of benchmarks/engine_faults.py, a few of each."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from enginelab import node as nodes
from enginelab import starts
from enginelab.bomb import bomb

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.load import builtin_catalog

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.mark.long
async def test_an_engine_or_its_agent_dies_under_load(tmp_path: Path, engine_python: Path) -> None:
    """Its server, its core, the core frozen, the agent thrice: answers or errors soon, a true ledger, no remains."""
    async with nodes.node(tmp_path / "home", engine_python) as made:
        ready = await made.ready()
        key = ready["api_key"]
        for role, number in (
            ("server", signal.SIGKILL),
            ("core", signal.SIGKILL),
            ("core", signal.SIGSTOP),
        ):
            await made.warm()
            row = await nodes.engine_fault(made, ready, key, role, number)
            assert row["holds"], row
        row = await nodes.agent_kills(made, ready, key, 3)
        assert row["holds"], row


@pytest.mark.long
@pytest.mark.parametrize("standby", [0, 1])
async def test_a_process_that_dies_in_a_phase_of_the_start(
    tmp_path: Path, engine_python: Path, standby: int
) -> None:
    """Every process that there is in every phase: all of it goes, and the next start goes live."""
    cache = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
    store = WeightsStore(WeightsSettings(tmp_path / "weights", cache / "artifacts"))
    model = await store.fetch(builtin_catalog().models[0].variants[0], lambda _: None)
    async with starts.real_room(tmp_path, engine_python, standby) as made:
        rows = await starts.kills(made, model, starts.FORKED if standby else starts.PLAIN)
    assert [row for row in rows if not row["holds"]] == []


@pytest.mark.long
async def test_a_node_that_is_stopped_while_its_engine_starts(tmp_path: Path, engine_python: Path) -> None:
    """SIGTERM early, in the middle and late: a clean end, and nothing stays."""
    row = await nodes.stops(tmp_path / "home", engine_python, [0.5, 6.0, 12.0, 18.0])
    assert row["holds"], row


async def test_a_fork_bomb_is_ended_whole(tmp_path: Path) -> None:
    """While it grows, a third of it outside of the engine's group: nothing is left of it."""
    row = await bomb(tmp_path)
    assert row["holds"], row

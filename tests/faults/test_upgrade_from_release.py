"""`serve --upgrade` from 0.1 as it was before its packages were renamed: old and new agent understand each other."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults.test_upgrade import Load, check, fronts, workers_of
from harness import Agent, fake_engine, processes_of

from pareta_agent import __version__

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]
BEFORE = "b4527bd3e505c5153c316c086fa5308d047f0720"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A link to 0.1's tree, as a package directory that an upgrade in place replaces."""
    found = subprocess.run(["git", "archive", BEFORE, "agent", "registry"], cwd=ROOT, capture_output=True)
    if found.returncode:
        pytest.skip("this clone has no history: git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(tmp_path / "before", filter="data")
    link = tmp_path / "installed"
    link.symlink_to(tmp_path / "before")
    return link


@pytest.fixture
def agents(home: Path) -> Iterator[list[Agent]]:
    started: list[Agent] = []
    yield started
    for agent in reversed(started):
        agent.__exit__()
    assert processes_of(home) == []


async def version_of(ready: dict[str, Any]) -> str:
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(ready["base_url"].removesuffix("/v1") + "/version")
    return str(answer.json()["version"])


@pytest.mark.parametrize("workers", [0, 2])
async def test_an_upgrade_in_place_from_the_release_before(
    agents: list[Agent], home: Path, installed: Path, workers: int
) -> None:
    """Under load nothing fails and every call is in the ledger once. A worker of the old agent that dies once the new
    packages are in place comes back."""
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine("--slow-token", "0.01"),
        "PYTHONPATH": f"{installed}/agent:{installed}/registry",
    }
    agents.append(Agent(home, *fronts(workers), settings=settings))
    ready = await asyncio.to_thread(agents[0].ready)
    assert await version_of(ready) == "0.1.0"
    installed.unlink()
    installed.symlink_to(ROOT)
    for worker in await asyncio.to_thread(workers_of, agents[0]):
        os.kill(worker["pid"], signal.SIGKILL)
    async with asyncio.timeout(120):
        while not all(
            each["restarts"] and each["state"] == "up"
            for each in await asyncio.to_thread(workers_of, agents[0])
        ):
            await asyncio.sleep(0.1)
    load = Load(ready, ready["api_key"])
    await asyncio.sleep(1)
    agents.append(Agent(home, "--upgrade", *fronts(workers), settings=settings))
    again = await asyncio.to_thread(agents[1].ready)
    assert again["base_url"] == ready["base_url"]
    assert await version_of(again) == __version__
    assert await asyncio.to_thread(agents[0].process.wait, 120) == 0
    async with asyncio.timeout(120):
        while len(load.seen) <= 100:
            await asyncio.sleep(0.1)
    seen = await load.end()
    await asyncio.to_thread(check, agents[1], seen)

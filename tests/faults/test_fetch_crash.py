"""A fetch that is killed leaves nothing wrong behind: never a partial artifact under its final name."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes import fetcher
from fakes.artifact import random_files
from fakes.flaky_registry import FlakyRegistry

from pareta_registry.artifacts.build import build_manifest

pytestmark = pytest.mark.slow
FILES = random_files({"model-1.safetensors": 900_000, "model-2.safetensors": 600_000, "config.json": 77})
KILLS, CONNECTIONS, PART_BYTES = 50, 3, 65_536


class Fetcher:
    """The process that forks fetches."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, root: Path, registry: FlakyRegistry, die_at: int = -1) -> tuple[int, int]:
        """The exit status (-9 for SIGKILL) and the number of steps."""
        assert self._process.stdin
        assert self._process.stdout
        line = f"{root} {registry.source} {registry.manifest.digest} {die_at}\n"
        self._process.stdin.write(line.encode())
        status, steps = (await self._process.stdout.readline()).split()
        return int(status), int(steps)


async def start_fetcher() -> Fetcher:
    path = str(Path(fetcher.__file__))
    pipe = asyncio.subprocess.PIPE
    return Fetcher(await asyncio.create_subprocess_exec(sys.executable, path, stdin=pipe, stdout=pipe))


@pytest.fixture
async def fetchers() -> AsyncIterator[list[Fetcher]]:
    """Two of them."""
    started = [await start_fetcher(), await start_fetcher()]
    yield started
    for one in started:
        one._process.kill()
        await one._process.wait()
        one._process._transport.close()  # type: ignore[attr-defined]  # else its pipes outlive the loop
        await asyncio.sleep(0)


def final(root: Path, registry: FlakyRegistry) -> Path:
    return root / "weights" / registry.manifest.digest.replace(":", "-")


async def test_kill_at_any_step(tmp_path: Path, fetchers: list[Fetcher]) -> None:
    """Killed at fifty random steps from the first lock to the last rename, some twice in a row: what stands under
    the final name is always the whole artifact, and the next start completes it."""
    run = fetchers[0].run
    dice = random.Random(11)
    killed = 0
    async with FlakyRegistry(FILES) as registry:
        _, steps = await run(tmp_path / "measure", registry)
        assert steps > 50
        for number in range(KILLS):
            root = tmp_path / str(number)
            path = final(root, registry)
            for die_at in dice.choice([(steps,), (steps,), (steps, steps // 2)]):
                killed += (await run(root, registry, dice.randint(1, die_at)))[0] == -9
                assert not path.exists() or build_manifest(path) == registry.manifest
            if number % 5 == 0:
                assert (await run(root, registry))[0] == 0
                assert build_manifest(path) == registry.manifest
                assert [p.name for p in (root / "weights").iterdir() if p.suffix == ".partial"] == []
    assert killed >= KILLS


async def test_a_killed_fetch_resumes(tmp_path: Path, fetchers: list[Fetcher]) -> None:
    """After a kill anywhere at most one part for each connection is downloaded again."""
    run = fetchers[0].run
    dice = random.Random(5)
    async with FlakyRegistry(FILES) as registry:
        _, steps = await run(tmp_path / "measure", registry)
        total = registry.served_bytes
        for number in range(8):
            root, registry.served_bytes = tmp_path / str(number), 0
            assert (await run(root, registry, dice.randint(steps // 4, steps)))[0] == -9
            assert registry.served_bytes > 0
            assert (await run(root, registry))[0] == 0
            assert registry.served_bytes <= total + CONNECTIONS * PART_BYTES


async def test_two_processes_fetch_once(tmp_path: Path, fetchers: list[Fetcher]) -> None:
    """Two agents on one root at the same time: the bytes come once, both end well."""
    async with FlakyRegistry(FILES) as registry:
        results = await asyncio.gather(*(one.run(tmp_path, registry) for one in fetchers))
        assert [status for status, _ in results] == [0, 0]
        assert registry.served_bytes == registry.manifest.total_bytes
        assert build_manifest(final(tmp_path, registry)) == registry.manifest

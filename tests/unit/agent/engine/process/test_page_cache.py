"""Weights that come into the page cache ahead of the engine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pareta_agent.engine.process.page_cache import read_ahead

MIB = 2**20


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """8 MiB on the disk that are no longer in memory; skipped where the file system keeps them there."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(b"w" * 8 * MIB)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    (tmp_path / "config.json").write_text("{}")
    if cached(path, 7 * MIB):
        pytest.skip("this file system drops nothing from memory")
    return tmp_path


def cached(path: Path, offset: int) -> bool:
    """Whether the page there is in memory; to ask has the kernel read the ones beside it."""
    with path.open("rb", buffering=0) as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except OSError:
            return False


async def test_weights_come_into_memory(weights: Path) -> None:
    """All of the weights, and nothing else."""
    assert await read_ahead(weights) == 8 * MIB
    async with asyncio.timeout(120):
        while not all(cached(weights / "model.safetensors", offset) for offset in range(0, 8 * MIB, MIB)):
            await asyncio.sleep(0.02)


async def test_memory_that_is_scarce_is_left_alone(weights: Path) -> None:
    """More than half of what is available is too much."""
    assert await read_ahead(weights, 15 * MIB) == 0
    assert not cached(weights / "model.safetensors", 0)
    assert await read_ahead(weights, 16 * MIB) == 8 * MIB


async def test_weights_that_are_gone_are_nobodys_error_here(tmp_path: Path) -> None:
    """The engine says it better."""
    assert await read_ahead(tmp_path / "gone") == 0

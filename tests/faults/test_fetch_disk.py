"""A disk that is really full: refused or resumed, and never a half artifact."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.artifact import random_files, write_artifact

from pareta_agent.errors import HostError
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.artifacts.build import build_manifest

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_disk_that_fills_up_under_a_fetch(tmp_path: Path, small_disk: Path) -> None:
    """Somebody else takes the space after admission: the error names the path, and with space again it resumes."""
    variant = write_artifact(
        tmp_path / "source", random_files({"model.safetensors": 3 * MIB, "config.json": 9})
    )
    settings = WeightsSettings(
        small_disk / "weights", tmp_path / "cache", reserve_bytes=0, part_bytes=MIB, connections=1
    )
    store = WeightsStore(settings)
    hog = small_disk / "hog"

    def take_space(_: object) -> None:
        if not hog.exists():
            hog.write_bytes(b"x" * (2 * MIB))

    with pytest.raises(HostError) as caught:
        await store.fetch(variant, take_space)
    assert caught.value.code == "disk_full"
    assert str(small_disk / "weights") in caught.value.message
    assert not store.has(variant.artifact)
    with pytest.raises(HostError, match=r"needs .* bytes"):
        await store.fetch(variant, lambda _: None)
    hog.unlink()
    path = await store.fetch(variant, lambda _: None)
    assert build_manifest(path).digest == variant.artifact


async def test_room_is_made_of_what_nobody_uses(tmp_path: Path, small_disk: Path) -> None:
    """A second artifact that does not fit beside the first takes its place once that is no longer pinned."""
    settings = WeightsSettings(small_disk / "weights", tmp_path / "cache", reserve_bytes=0)
    store = WeightsStore(settings)
    first, second = (
        write_artifact(tmp_path / str(seed), random_files({"model.safetensors": 3 * MIB}, seed))
        for seed in (1, 2)
    )
    await store.fetch(first, lambda _: None)
    with pytest.raises(HostError, match="disk"):
        await store.fetch(second, lambda _: None)
    store.unpin(first.artifact)
    await store.fetch(second, lambda _: None)
    assert (store.has(first.artifact), store.has(second.artifact)) == (False, True)


async def test_room_is_made_of_what_was_fetched_ahead(tmp_path: Path, small_disk: Path) -> None:
    """Weights that wait for a start give way to those that a start waits for, and take nobody's room."""
    settings = WeightsSettings(small_disk / "weights", tmp_path / "cache", reserve_bytes=0)
    store = WeightsStore(settings)
    first, second = (
        write_artifact(tmp_path / str(seed), random_files({"model.safetensors": 3 * MIB}, seed))
        for seed in (1, 2)
    )
    await store.prefetch(first, lambda _: None)
    await store.fetch(second, lambda _: None)
    assert (store.has(first.artifact), store.has(second.artifact)) == (False, True)
    with pytest.raises(HostError, match="disk"):
        await store.prefetch(first, lambda _: None)
    assert store.has(second.artifact)

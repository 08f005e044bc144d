"""Artifacts appear whole under their final name or not at all, and stay while they are in use."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from fakes.artifact import random_files, write_artifact

from pareta_agent.errors import AgentError, HostError, RegistryError
from pareta_agent.weights import disk
from pareta_agent.weights.settings import WeightsProgress, WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.artifacts.manifest import MANIFEST_NAME
from pareta_registry.catalog import Variant

FILES = random_files({"model.safetensors": 300_000, "config.json": 100, "sub/tokenizer.json": 3000})


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    return write_artifact(tmp_path / "source", FILES)


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(
        WeightsSettings(
            tmp_path / "weights", tmp_path / "cache", reserve_bytes=0, part_bytes=65536, connections=1
        )
    )


def ignore(_: WeightsProgress) -> None: ...


def names(tmp_path: Path) -> set[str]:
    """What stands under the weights root, locks left out."""
    return {
        path.name for path in (tmp_path / "weights").iterdir() if path.suffix not in (".lock", ".journal")
    }


async def refused(store: WeightsStore, variant: Variant) -> AgentError:
    with pytest.raises((HostError, RegistryError)) as caught:
        await store.fetch(variant, ignore)
    assert variant.artifact[:19] in caught.value.message
    assert caught.value.remedy
    return caught.value


async def test_a_fetch_publishes_the_artifact(store: WeightsStore, variant: Variant) -> None:
    """The directory holds the files and the manifest, read-only, and is named by digest."""
    seen: list[WeightsProgress] = []
    path = await store.fetch(variant, seen.append)
    assert variant.artifact.replace(":", "-") == path.name
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    assert {*FILES, MANIFEST_NAME} == {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert (path / "config.json").stat().st_mode & 0o777 == 0o444
    assert {("fetch", 303_100), ("verify", 303_100)} <= {(p.phase, p.done_bytes) for p in seen}
    assert {303_100} == {p.total_bytes for p in seen}


async def test_a_second_fetch_reads_nothing(store: WeightsStore, variant: Variant, tmp_path: Path) -> None:
    """What is here is not fetched again, even when its source is gone."""
    path = await store.fetch(variant, ignore)
    (tmp_path / "source" / "model.safetensors").unlink()
    assert path == await store.fetch(variant, ignore)


async def test_a_damaged_artifact_is_fetched_again(store: WeightsStore, variant: Variant) -> None:
    """A file that lost bytes is noticed by its size."""
    path = await store.fetch(variant, ignore)
    (path / "model.safetensors").chmod(0o644)
    os.truncate(path / "model.safetensors", 10)
    assert not store.has(variant.artifact)
    await store.fetch(variant, ignore)
    assert FILES["model.safetensors"] == (path / "model.safetensors").read_bytes()


async def test_verify_finds_a_flipped_bit(store: WeightsStore, variant: Variant) -> None:
    """Sizes agree, bytes do not: only the full check sees it, and names the file."""
    path = await store.fetch(variant, ignore)
    await store.verify(variant.artifact, ignore)
    damaged = path / "model.safetensors"
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" + FILES["model.safetensors"][1:])
    with pytest.raises(RegistryError, match=r"model\.safetensors") as caught:
        await store.verify(variant.artifact, ignore)
    assert caught.value.code == "digest_mismatch"


async def test_another_artifact_is_refused(store: WeightsStore, variant: Variant, tmp_path: Path) -> None:
    """A source whose manifest is not the catalog's gives both digests, and nothing appears."""
    other = variant.model_copy(update={"artifact": "sha256:" + "0" * 64})
    error = await refused(store, other)
    assert ("digest_mismatch", set()) == (error.code, names(tmp_path))
    assert variant.artifact in error.message


async def test_altered_bytes_are_refused(store: WeightsStore, variant: Variant, tmp_path: Path) -> None:
    """A source that holds other bytes than its manifest declares never gets a final name."""
    (tmp_path / "source" / "model.safetensors").write_bytes(b"y" * 300_000)
    error = await refused(store, variant)
    assert error.code == "digest_mismatch"
    assert not store.has(variant.artifact)


@pytest.mark.parametrize("damage", ["gone", "short", "no manifest", "link"])
async def test_a_broken_source_is_an_error(
    store: WeightsStore, variant: Variant, tmp_path: Path, damage: str
) -> None:
    """Missing, short and linked files are refused by name."""
    model = tmp_path / "source" / "model.safetensors"
    if damage == "short":
        os.truncate(model, 5)
    else:
        (model if damage != "no manifest" else tmp_path / "source" / MANIFEST_NAME).unlink()
    if damage == "link":
        model.symlink_to("/etc/hostname")
    store._settings = WeightsSettings(tmp_path / "weights", tmp_path, reserve_bytes=0, part_attempts=1)
    error = await refused(store, variant)
    codes = {"short": "artifact_truncated", "link": "artifact_unreadable"}
    assert codes.get(damage, "artifact_missing") == error.code
    assert not store.has(variant.artifact)


async def test_a_full_disk_is_refused_before_the_first_byte(variant: Variant, tmp_path: Path) -> None:
    """Admission compares what is needed with what is free, and says both."""
    store = WeightsStore(WeightsSettings(tmp_path / "weights", tmp_path / "cache", reserve_bytes=1 << 60))
    error = await refused(store, variant)
    assert error.code == "disk_full"
    assert "needs 303,100 bytes" in error.message
    assert str(tmp_path / "weights") in error.message
    assert sum(p.stat().st_size for p in (tmp_path / "weights").rglob("*.safetensors")) == 0


async def test_a_disk_that_fills_up_is_told(
    store: WeightsStore, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC in the middle leaves nothing under the final name, and the next fetch resumes."""
    real, budget = os.pwrite, [200_000]

    def pwrite(descriptor: int, piece: bytes, offset: int) -> int:
        budget[0] -= len(piece)
        if budget[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, piece, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    error = await refused(store, variant)
    assert error.code == "disk_full"
    assert not store.has(variant.artifact)
    budget[0] = 200_000
    path = await store.fetch(variant, ignore)
    assert FILES["model.safetensors"] == (path / "model.safetensors").read_bytes()


async def test_an_unusable_root_is_told(variant: Variant, tmp_path: Path) -> None:
    """A weights root that is a file is the host's problem, named by path."""
    (tmp_path / "weights").write_text("x")
    error = await refused(WeightsStore(WeightsSettings(tmp_path / "weights", tmp_path)), variant)
    assert (error.code, str(tmp_path / "weights") in error.message) == ("weights_unreadable", True)


async def test_two_stores_fetch_once(variant: Variant, tmp_path: Path) -> None:
    """Two agents on one root: one fetches, the other waits and finds it."""
    settings = WeightsSettings(tmp_path / "weights", tmp_path / "cache", reserve_bytes=0)
    one, two = WeightsStore(settings), WeightsStore(settings)
    seen: tuple[list[WeightsProgress], list[WeightsProgress]] = ([], [])
    paths = await asyncio.gather(one.fetch(variant, seen[0].append), two.fetch(variant, seen[1].append))
    assert paths[0] == paths[1]
    assert sum(any(p.phase == "verify" for p in progress) for progress in seen) == 1


async def test_cancelling_leaves_no_final_name(store: WeightsStore, variant: Variant, tmp_path: Path) -> None:
    """Ctrl-C in the middle: only a partial is left, the lock is free, and the next fetch works."""
    started = asyncio.Event()
    task = asyncio.create_task(store.fetch(variant, lambda _: started.set()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(tmp_path) <= {variant.artifact.replace(":", "-") + ".partial"}
    await store.fetch(variant, ignore)
    assert store.has(variant.artifact)


async def test_eviction_takes_the_least_recently_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is short, what nobody pins goes, oldest use first; what is pinned, here or by another, stays."""
    settings = WeightsSettings(tmp_path / "weights", tmp_path / "cache", reserve_bytes=0)
    store, other = WeightsStore(settings), WeightsStore(settings)
    variants = [
        write_artifact(tmp_path / str(seed), random_files({"model.safetensors": 1000}, seed))
        for seed in range(4)
    ]
    for age, variant in enumerate(variants):
        await store.fetch(variant, ignore)
        lock = tmp_path / "weights" / (variant.artifact.replace(":", "-") + ".lock")
        os.utime(lock, (age, age))
    await other.fetch(variants[0], ignore)
    os.utime(tmp_path / "weights" / (variants[0].artifact.replace(":", "-") + ".lock"), (0, 0))
    for variant in variants[:1] + variants[2:]:
        store.unpin(variant.artifact)
    monkeypatch.setattr(disk, "free_bytes", lambda root: 5000 - 1000 * len(store.digests()))
    await store.evict(2000)
    assert [store.has(variant.artifact) for variant in variants] == [True, True, False, True]
    await store.evict(10_000)
    assert [store.has(variant.artifact) for variant in variants] == [True, True, False, False]


async def test_eviction_takes_what_interrupted_fetches_left(
    store: WeightsStore, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abandoned partial takes room that a fetch needs; it goes, and its lock file stays."""
    await store.fetch(variant, ignore)
    store.unpin(variant.artifact)
    name = variant.artifact.replace(":", "-")
    (tmp_path / "weights" / name).rename(tmp_path / "weights" / f"{name}.partial")
    monkeypatch.setattr(disk, "free_bytes", lambda root: 0)
    await store.evict(1)
    assert names(tmp_path) == set()


async def test_what_is_in_use_cannot_be_removed(store: WeightsStore, variant: Variant) -> None:
    """Pins count: the artifact goes only after the last use ended."""
    await store.fetch(variant, ignore)
    await store.fetch(variant, ignore)
    store.unpin(variant.artifact)
    assert not await store.remove(variant.artifact)
    store.unpin(variant.artifact)
    assert await store.remove(variant.artifact)
    assert not store.has(variant.artifact)


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a few bytes at a time gets all of them, at their place."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, piece, offset: real(descriptor, piece[:2], offset))
    disk.write_at(tmp_path / "a", 3, b"abcdefg")
    assert (tmp_path / "a").read_bytes() == b"\0\0\0abcdefg"


def test_sharing_falls_back_to_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither link nor clone works the bytes are copied."""
    (tmp_path / "a").write_bytes(b"abc")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "no")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(disk.fcntl, "ioctl", refuse)
    disk.share(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "b").read_bytes(), (tmp_path / "b").stat().st_nlink) == (b"abc", 1)

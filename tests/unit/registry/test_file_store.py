"""An artifact in a directory is read by ranges; links, devices and strangers are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pareta_registry.errors import ArtifactError
from pareta_registry.stores import FileStore, StoreEntry, open_store


async def read(store: FileStore, path: str, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in store.read(path, start, stop)])


async def test_ranges_are_read(tmp_path: Path) -> None:
    """Start and stop are honoured, and the end of the file ends the stream."""
    (tmp_path / "config.json").write_bytes(b"0123456789")
    store = open_store(tmp_path.as_uri())
    assert isinstance(store, FileStore)
    assert (
        await read(store, "config.json", 2, 5),
        await read(store, "config.json", 8, 99),
    ) == (b"234", b"89")
    assert StoreEntry("config.json", 10) == await store.stat("config.json")
    assert (StoreEntry("config.json", 10),) == await store.list()


@pytest.mark.parametrize("path", ["../x.json", "/etc/passwd", "x.bin"])
async def test_paths_outside_are_refused(tmp_path: Path, path: str) -> None:
    """A path that no manifest may hold is not opened."""
    with pytest.raises(ArtifactError) as caught:
        await FileStore(tmp_path).stat(path)
    assert caught.value.code == "artifact_refused"


async def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    """A link is not followed and a pipe is not waited for."""
    (tmp_path / "link.json").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ArtifactError):
        await FileStore(tmp_path).stat("link.json")
    with pytest.raises(ArtifactError) as caught:
        await FileStore(tmp_path).stat("pipe.json")
    assert caught.value.code == "artifact_refused"
    with pytest.raises(ArtifactError, match="link"):
        await FileStore(tmp_path).list()


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """A missing file and a missing directory each say so."""
    with pytest.raises(ArtifactError, match=r"has no a\.json") as caught:
        await FileStore(tmp_path).stat("a.json")
    assert caught.value.code == "artifact_missing"
    with pytest.raises(ArtifactError, match="no artifact directory"):
        await FileStore(tmp_path / "gone").list()


@pytest.mark.parametrize("source", ["ftp://x/y", "no-scheme", "file://host/x"])
def test_unknown_sources_are_refused(source: str) -> None:
    """A scheme without a store, or a path on another host, is an error with the ways that work."""
    with pytest.raises(ArtifactError) as caught:
        open_store(source)
    assert caught.value.code in ("source_unsupported", "source_invalid")

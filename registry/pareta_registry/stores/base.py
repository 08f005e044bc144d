"""Artifact store: defines the operations of a place that holds artifacts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pareta_registry.artifacts.manifest import SIGNATURE_NAME
from pareta_registry.errors import ArtifactError

MAX_SIGNATURE_BYTES = 8 << 20
Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """A file of an artifact; `sha256` is 64 hex digits, None for a store without hashes."""

    path: str
    size_bytes: int
    sha256: str | None = None


async def read_small(store: Store, path: str, max_bytes: int) -> bytes:
    """A small file whole, or the first `max_bytes`."""
    size = (await store.stat(path)).size_bytes
    data = bytearray()
    async with aclosing(store.read(path, 0, min(size, max_bytes))) as pieces:
        async for piece in pieces:
            data += piece
    return bytes(data)


async def signature_beside(store: Store) -> bytes | None:
    """The signature in a store of plain files, None for none."""
    try:
        return await read_small(store, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    except ArtifactError as error:
        if error.code != "artifact_missing":
            raise
        return None


class Store(Protocol):
    """An artifact in a store. Every failure is an ArtifactError that names `where`.

    Answers are untrusted: every reader verifies.
    """

    where: str
    keeps_hashes: bool
    """True if `list` returns every file's sha256, so that no manifest file is needed."""

    async def list(self) -> tuple[StoreEntry, ...]:
        """The files of the artifact, sorted by path."""

    async def stat(self, path: str) -> StoreEntry:
        """The entry of a file; ArtifactError `artifact_missing` for a missing file."""

    def read(self, path: str, start: int, stop: int) -> AsyncGenerator[Piece]:
        """The bytes [start, stop) in order, in pieces of at most a few MiB; may end early, never late.

        A piece is valid until the next piece is requested.
        """

    async def signature(self) -> bytes | None:
        """The signature bundle of the artifact (`model_signature` verifies bundles), None for none."""

    def local_path(self, path: str, /) -> Path | None:
        """The file's path on this machine for sharing blocks. None for a remote file or a file that may change."""

    async def close(self) -> None: ...

"""What a place that holds artifacts must be able to do, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pareta_registry.errors import ArtifactError
from pareta_registry.manifest import SIGNATURE_NAME

MAX_SIGNATURE_BYTES = 8 << 20
Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """One file of an artifact as its store knows it; `sha256` is 64 hex digits where the store keeps it."""

    path: str
    size_bytes: int
    sha256: str | None = None


async def read_small(store: Store, path: str, max_bytes: int) -> bytes:
    """A small file whole, or its first `max_bytes`."""
    size = (await store.stat(path)).size_bytes
    data = bytearray()
    async with aclosing(store.read(path, 0, min(size, max_bytes))) as pieces:
        async for piece in pieces:
            data += piece
    return bytes(data)


async def signature_beside(store: Store) -> bytes | None:
    """The signature in a store that keeps files."""
    try:
        return await read_small(store, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    except ArtifactError as error:
        if error.code != "artifact_missing":
            raise
        return None


class Store(Protocol):
    """One artifact in one place. Every failure is an ArtifactError that names `where`.

    Nothing here is trusted: whoever reads verifies.
    """

    where: str
    keeps_hashes: bool
    """Whether `list` knows every file's sha256, so that no manifest file is needed."""

    async def list(self) -> tuple[StoreEntry, ...]:
        """The files of the artifact, sorted by path."""

    async def stat(self, path: str) -> StoreEntry:
        """One file; ArtifactError `artifact_missing` when it is not there."""

    def read(self, path: str, start: int, stop: int) -> AsyncGenerator[Piece]:
        """The bytes [start, stop) in order, in pieces of at most a few MiB; may end early, never late.

        A piece holds until the next one is asked for."""

    async def signature(self) -> bytes | None:
        """What vouches for the artifact (`model_signature` reads it), None when nothing does."""

    def local_path(self, path: str, /) -> Path | None:
        """Where the file lies on this machine for sharing its blocks, None when it does not or may change."""

    async def close(self) -> None: ...

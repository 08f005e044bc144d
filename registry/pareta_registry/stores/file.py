"""File store: reads an artifact in a directory of this machine or of a mounted share. Links are refused."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

from pareta_registry.artifacts.manifest import BESIDE, path_refusal
from pareta_registry.errors import ArtifactError, unreadable
from pareta_registry.stores.base import Piece, StoreEntry, signature_beside

_PIECE_BYTES = 4 << 20


class FileStore:
    """`frozen` guarantees that the files never change, so that blocks may be shared."""

    keeps_hashes = False

    def __init__(self, root: Path, *, frozen: bool = False) -> None:
        self.where = f"file://{root}"
        self._root = root
        self._frozen = frozen

    async def list(self) -> tuple[StoreEntry, ...]:
        return await asyncio.to_thread(self._list)

    async def stat(self, path: str) -> StoreEntry:
        return StoreEntry(path, (await asyncio.to_thread(self._status, path)).st_size)

    async def read(self, path: str, start: int, stop: int) -> AsyncGenerator[Piece]:
        while start < stop:
            piece = await asyncio.to_thread(self._piece, path, start, min(_PIECE_BYTES, stop - start))
            if not piece:
                return
            start += len(piece)
            yield piece

    async def signature(self) -> bytes | None:
        return await signature_beside(self)

    def local_path(self, path: str, /) -> Path | None:
        return self._root / path if self._frozen else None

    async def close(self) -> None:
        """Without effect: no file stays open."""

    def _list(self) -> tuple[StoreEntry, ...]:
        if not self._root.is_dir():
            raise ArtifactError(
                "artifact_missing", f"there is no artifact directory {self._root}", "check the source's path"
            )
        entries = []
        for folder, folders, names in os.walk(self._root, onerror=self._raise):
            for name in (*folders, *names):
                full = Path(folder, name)
                path = full.relative_to(self._root).as_posix()
                if full.is_symlink():
                    raise self._refused(path, "the path is a link")
                if name in names:
                    entries.append(StoreEntry(path, self._status(path).st_size))
        return tuple(sorted(entries, key=lambda entry: entry.path))

    def _raise(self, error: OSError) -> None:
        raise self._unreadable(str(error.filename), error) from error

    def _status(self, path: str) -> os.stat_result:
        descriptor = self._open(path)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _piece(self, path: str, start: int, size: int) -> bytes:
        descriptor = self._open(
            path
        )  # opened for each piece: a cancelled read must not leave a descriptor to a late thread
        try:
            return os.pread(descriptor, size, start)
        except OSError as error:
            raise self._unreadable(path, error) from error
        finally:
            os.close(descriptor)

    def _open(self, path: str) -> int:
        reason = path_refusal(path, code=True) if path not in BESIDE else None
        if reason:
            raise self._refused(path, reason)
        try:
            descriptor = os.open(
                self._root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except FileNotFoundError:
            raise ArtifactError(
                "artifact_missing", f"{self.where} has no {path}", "publish the artifact again"
            ) from None
        except OSError as error:
            raise self._unreadable(path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._refused(path, "the path is no regular file")
        return descriptor

    def _refused(self, path: str, reason: str) -> ArtifactError:
        return ArtifactError(
            "artifact_refused",
            f"{path} in {self.where} is refused: {reason}",
            "replace the path with a plain file",
        )

    def _unreadable(self, path: str, error: OSError) -> ArtifactError:
        return unreadable(f"{path} in {self.where}", error)

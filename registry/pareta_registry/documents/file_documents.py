"""File documents: stores documents in a directory; each appears whole, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pareta_registry.documents.document_store import bounded, missing
from pareta_registry.errors import ArtifactError
from pareta_registry.files import write_atomically


class FileDocuments:
    def __init__(self, root: Path) -> None:
        self.where = f"file://{root}"
        self._root = root

    async def read(self, name: str, max_bytes: int) -> bytes:
        try:
            data = await asyncio.to_thread((self._root / name).read_bytes)
        except FileNotFoundError:
            raise missing(self.where, name) from None
        except OSError as error:
            raise ArtifactError(
                "catalog_unreachable",
                f"{self._root / name} cannot be read: {error.strerror}",
                "check owner and permissions",
            ) from None
        return bounded(data, name, max_bytes)

    async def write(self, name: str, data: bytes) -> None:
        await asyncio.to_thread(self._write, self._root / name, data)

    async def names(self) -> list[str]:
        found = await asyncio.to_thread(lambda: sorted(self._root.glob("*/*.json")))
        return [path.relative_to(self._root).as_posix() for path in found if path.name[0] != "."]

    async def remove(self, name: str) -> None:
        await asyncio.to_thread((self._root / name).unlink, missing_ok=True)

    async def close(self) -> None:
        """Without effect: no file stays open."""

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)

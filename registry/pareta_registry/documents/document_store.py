"""Document store: reads and writes small documents by name (`channels/stable.json`), in any place.

A follower of a channel requires a reader, a publisher a writer. Over the network an unchanged document is not sent
again.
"""

from __future__ import annotations

from typing import Protocol

from pareta_registry.errors import ArtifactError


class DocumentReader(Protocol):
    where: str

    async def read(self, name: str, max_bytes: int) -> bytes:
        """The whole document. ArtifactError `artifact_missing` for a missing document; other codes for an unreachable
        store.
        """

    async def close(self) -> None: ...


class DocumentWriter(DocumentReader, Protocol):
    async def write(self, name: str, data: bytes) -> None:
        """Stores the document whole, or not at all."""

    async def names(self) -> list[str]:
        """The names of all documents, sorted."""

    async def remove(self, name: str) -> None:
        """Removes the document; ArtifactError if the store refuses."""


def missing(where: str, name: str) -> ArtifactError:
    return ArtifactError(
        "artifact_missing",
        f"{where} has no {name}",
        "promote a catalog to that channel, or name another channel",
    )


def bounded(data: bytes, name: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise ArtifactError(
            "catalog_unreachable", f"{name} is longer than {max_bytes} bytes", "correct the address"
        )
    return data

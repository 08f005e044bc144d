"""Document store: reads and writes small documents by name (`channels/stable.json`), wherever they lie.

Following a channel needs a reader; publishing needs a writer. Over the network an unchanged document costs nothing.
"""

from __future__ import annotations

from typing import Protocol

from pareta_registry.errors import ArtifactError


class DocumentReader(Protocol):
    where: str

    async def read(self, name: str, max_bytes: int) -> bytes:
        """The whole document; ArtifactError `artifact_missing` when it is not there, others when out of reach."""

    async def close(self) -> None: ...


class DocumentWriter(DocumentReader, Protocol):
    async def write(self, name: str, data: bytes) -> None:
        """The document appears whole, or not at all."""

    async def names(self) -> list[str]:
        """Every document that is there, sorted."""

    async def remove(self, name: str) -> None:
        """The document is gone; ArtifactError where the place does not let it go."""


def missing(where: str, name: str) -> ArtifactError:
    return ArtifactError(
        "artifact_missing", f"{where} has no {name}", "promote a catalog to that channel, or name another"
    )


def bounded(data: bytes, name: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise ArtifactError(
            "catalog_unreachable", f"{name} is longer than {max_bytes} bytes", "ask the right place"
        )
    return data

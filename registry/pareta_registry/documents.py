"""Small documents by name (`channels/stable.json`), in a directory, over HTTP or in an OCI repository.

What following and publishing a channel needs of a place. Over the network an unchanged document costs nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from yarl import URL

from pareta_registry.errors import ArtifactError
from pareta_registry.files import write_atomically
from pareta_registry.stores.http import HttpClient
from pareta_registry.stores.settings import StoreSettings


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


def open_documents(source: str, settings: StoreSettings) -> DocumentReader:
    """`source` is `file://`, `oci://` or `https://`; ArtifactError `source_unsupported` for others."""
    parts = urlsplit(source)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in settings.plain_http):
        return HttpDocuments(URL(source), settings)
    if parts.scheme == "http":
        raise ArtifactError(
            "source_unsupported",
            f"a catalog is not taken over plain HTTP from {parts.hostname}",
            "use https://",
        )
    return writable_documents(source, settings)


def writable_documents(source: str, settings: StoreSettings) -> DocumentWriter:
    """A place that a publisher may write to: a directory or an OCI repository."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return FileDocuments(Path(unquote(parts.path)))
    if parts.scheme == "oci":
        from pareta_registry.documents_oci import OciDocuments

        return OciDocuments(source, settings)
    raise ArtifactError(
        "source_unsupported",
        f"catalogs are not kept at {source}",
        "use file://, oci:// (or https:// to follow)",
    )


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
                "check its owner and permissions",
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
        """Nothing is held open."""

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


class HttpDocuments:
    """Asks again with the ETag of what it has."""

    def __init__(self, base: URL, settings: StoreSettings) -> None:
        self.where = str(base.with_user(None))
        self._base = base
        self._http = HttpClient(settings, self.where)
        self._known: dict[str, tuple[str, bytes]] = {}

    async def read(self, name: str, max_bytes: int) -> bytes:
        url = self._base.joinpath(name)
        etag, known = self._known.get(name, ("", b""))
        async with self._http.request("GET", url, {"If-None-Match": etag} if etag else {}) as response:
            if etag and response.status == 304:
                return known
            if response.status == 404:
                raise missing(self.where, name)
            self._http.check(response, url)
            document = bounded(await self._http.body(response, max_bytes + 1), name, max_bytes)
            self._known[name] = (response.headers.get("ETag", ""), document)
        return document

    async def close(self) -> None:
        await self._http.close()


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

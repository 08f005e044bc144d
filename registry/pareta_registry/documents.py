"""Small documents by name, from a directory or over HTTP with ETags: what following a channel needs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from yarl import URL

from pareta_registry.errors import ArtifactError
from pareta_registry.stores.http import HttpClient
from pareta_registry.stores.settings import StoreSettings


class DocumentReader(Protocol):
    async def read(self, name: str, max_bytes: int) -> bytes:
        """The whole document; ArtifactError when it is missing, too long or out of reach."""

    async def close(self) -> None: ...


def open_documents(source: str, settings: StoreSettings) -> DocumentReader:
    parts = urlsplit(source)
    if parts.scheme == "file":
        return FileDocuments(Path(unquote(parts.path)))
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in settings.plain_http):
        return HttpDocuments(URL(source), settings)
    raise ArtifactError(
        "source_unsupported",
        f"a catalog cannot be followed at {source}",
        "use https:// or file://, or list the host in `plain_http`",
    )


class FileDocuments:
    def __init__(self, root: Path) -> None:
        self._root = root

    async def read(self, name: str, max_bytes: int) -> bytes:
        try:
            data = await asyncio.to_thread((self._root / name).read_bytes)
        except OSError as error:
            raise ArtifactError(
                "catalog_unreachable",
                f"{self._root / name} cannot be read: {error.strerror}",
                "check the path",
            ) from None
        return _bounded(data, name, max_bytes)

    async def close(self) -> None:
        """Nothing is held open."""


class HttpDocuments:
    """Asks again with the ETag of what it has, so that nothing new costs nothing."""

    def __init__(self, base: URL, settings: StoreSettings) -> None:
        self._base = base
        self._http = HttpClient(settings, str(base.with_user(None)))
        self._known: dict[str, tuple[str, bytes]] = {}

    async def read(self, name: str, max_bytes: int) -> bytes:
        url = self._base.joinpath(name)
        etag, known = self._known.get(name, ("", b""))
        async with self._http.request("GET", url, {"If-None-Match": etag} if etag else {}) as response:
            if etag and response.status == 304:
                return known
            self._http.check(response, url)
            data = bytearray()
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > max_bytes:
                    break
            document = _bounded(bytes(data), name, max_bytes)
            self._known[name] = (response.headers.get("ETag", ""), document)
        return document

    async def close(self) -> None:
        await self._http.close()


def _bounded(data: bytes, name: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise ArtifactError(
            "catalog_unreachable", f"{name} is longer than {max_bytes} bytes", "ask the right place"
        )
    return data

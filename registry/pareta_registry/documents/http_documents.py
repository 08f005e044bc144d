"""HTTP documents: reads documents below a URL, with the ETag of the stored copy."""

from __future__ import annotations

from yarl import URL

from pareta_registry.documents.document_store import bounded, missing
from pareta_registry.stores.http import HttpClient
from pareta_registry.stores.settings import StoreSettings


class HttpDocuments:
    """Read-only: no document is written over HTTP."""

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

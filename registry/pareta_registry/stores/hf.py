"""Hub store: reads an artifact in a private mirror with the Hugging Face hub's routes: `hf://org/name@<commit>`.

A branch or a tag can move, so only a commit is accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yarl import URL

from pareta_registry.artifacts.manifest import MANIFEST_NAME, path_refusal
from pareta_registry.errors import ArtifactError
from pareta_registry.stores.base import Piece, StoreEntry, signature_beside
from pareta_registry.stores.http import HttpClient, next_page
from pareta_registry.stores.settings import StoreSettings

_SOURCE = re.compile(r"hf://([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)@([0-9a-f]{40})")

_MAX_LIST_BYTES = 32 << 20


class HfStore:
    """`list` leaves out files that an artifact must not contain: a hub repository has many."""

    keeps_hashes = False

    def __init__(self, source: str, settings: StoreSettings) -> None:
        found = _SOURCE.fullmatch(source)
        if not found:
            raise ArtifactError(
                "source_invalid",
                f"{source} is no pinned hub repository",
                "write hf://org/name@ and the 40 hex digits",
            )
        if not settings.hf_endpoint:
            raise ArtifactError(
                "hf_endpoint_missing",
                f"{source} requires a mirror, and none is configured",
                "set `hf_endpoint`",
            )
        self.where = f"{source} on {URL(settings.hf_endpoint).authority}"
        self._endpoint = settings.hf_endpoint.rstrip("/")
        self._repository, self._revision = found[1], found[2]
        self._http = HttpClient(settings, self.where)
        self._headers = _authorization(settings.hf_token_file)
        self._entries: dict[str, StoreEntry] | None = None

    async def list(self) -> tuple[StoreEntry, ...]:
        if self._entries is None:
            self._entries = {entry.path: entry async for entry in self._tree()}
        return tuple(entry for entry in self._entries.values() if not path_refusal(entry.path))

    async def stat(self, path: str) -> StoreEntry:
        await self.list()
        entry = (self._entries or {}).get(path)
        if entry is None:
            raise ArtifactError(
                "artifact_missing",
                f"{self.where} has no {path}",
                "list the files in the catalog's variant (`pareta-registry import` does)"
                if path == MANIFEST_NAME
                else "mirror the repository again",
            )
        return entry

    async def read(self, path: str, start: int, stop: int) -> AsyncGenerator[Piece]:
        url = URL(f"{self._endpoint}/{self._repository}/resolve/{self._revision}/{quote(path)}", encoded=True)
        ranged = {**self._headers, "Range": f"bytes={start}-{stop - 1}"}
        async with self._http.request("GET", url, ranged) as response:
            async for piece in self._http.pieces(response, url, start, stop):
                yield piece

    async def signature(self) -> bytes | None:
        return await signature_beside(self)

    def local_path(self, _path: str, /) -> Path | None:
        return None

    async def close(self) -> None:
        await self._http.close()

    async def _tree(self) -> AsyncGenerator[StoreEntry]:
        url: URL | None = URL(
            f"{self._endpoint}/api/models/{self._repository}/tree/{self._revision}?recursive=true",
            encoded=True,
        )
        while url is not None:
            async with self._http.request("GET", url, self._headers) as response:
                self._http.check(response, url)
                try:
                    for item in json.loads(await self._http.body(response, _MAX_LIST_BYTES)):
                        if item["type"] == "file":
                            yield _entry(item)
                except (ValueError, KeyError, TypeError):
                    raise ArtifactError(
                        "store_refused",
                        f"{self.where} sent an unknown form of file list",
                        "check the mirror's log",
                    ) from None
                url = next_page(url, response)


def _entry(item: dict[str, Any]) -> StoreEntry:
    lfs = item.get("lfs") or {}
    return StoreEntry(str(item["path"]), int(item["size"]), lfs.get("oid") or lfs.get("sha256"))


def _authorization(token_file: Path | None) -> dict[str, str]:
    if token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    except (OSError, UnicodeDecodeError):
        raise ArtifactError(
            "credentials_unreadable",
            f"{token_file} holds no readable token",
            "write the mirror's token into that file",
        ) from None

"""Channel follower: reads a published channel: the newest trusted catalog, or the last good catalog while offline.

Refuses unsigned pointers (with pinned keys), altered documents, and serials below the host's highest. Accepted
documents are stored on disk with the envelope, and checked again when read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pareta_registry.catalog import Catalog
from pareta_registry.channels.cache import CachedCatalog, CatalogCache
from pareta_registry.channels.channel import (
    MAX_BYTES,
    Pointer,
    catalog_path,
    channel_path,
    read_catalog,
    read_pointer,
)
from pareta_registry.documents.document_store import DocumentReader
from pareta_registry.documents.open_documents import open_documents
from pareta_registry.errors import ArtifactError, RegistryFailure, TrustError
from pareta_registry.load import parse_catalog
from pareta_registry.signing.keys import PublicKey
from pareta_registry.stores.settings import StoreSettings

LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class Followed:
    """A trusted catalog. `confirmed_s`: wall time of the channel's last confirmation. `refusal`: the reason for which
    a newer answer was refused; None after an accepted answer.
    """

    catalog: Catalog
    serial: int
    confirmed_s: float
    refusal: RegistryFailure | None = None

    def age_s(self, now_s: float) -> float:
        return max(0.0, now_s - self.confirmed_s)


class CatalogFollower:
    """Follows `channel` at `source` (`file://`, `oci://`, `https://`); `state_dir` stores the last good state."""

    def __init__(
        self,
        source: str,
        channel: str,
        state_dir: Path,
        trusted: Sequence[PublicKey] = (),
        settings: StoreSettings | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.where = f"{source.rstrip('/')}/{channel_path(channel)}"
        self._channel = channel
        self._reader: DocumentReader = open_documents(source, settings or StoreSettings())
        self._cache = CatalogCache(state_dir, source, channel)
        self._trusted = tuple(trusted)
        self._wall_s = wall_s

    async def refresh(self, within_s: float = LOOK_S) -> Followed:
        """The newest trusted catalog. While the channel is unreachable or refused: the last good catalog, with the
        reason.

        Raises the reason if there is no last good catalog.
        """
        cached = await asyncio.to_thread(self._cache.read, self._trusted)
        try:
            async with asyncio.timeout(within_s):
                return await self._look(cached)
        except TimeoutError:
            refusal: RegistryFailure = self._silent(within_s)
        except RegistryFailure as error:
            refusal = error
        if cached is None:
            raise refusal
        return Followed(cached.catalog, cached.serial, cached.confirmed_s, refusal)

    async def close(self) -> None:
        await self._reader.close()

    async def _look(self, cached: CachedCatalog | None) -> Followed:
        envelope = await self._reader.read(channel_path(self._channel), MAX_BYTES)
        pointer = read_pointer(envelope, self._channel, self._trusted, self.where)
        seen = await asyncio.to_thread(self._cache.pointer)
        if seen is not None and not pointer.follows(seen):
            raise self._rolled_back(pointer, seen)
        data = None
        if cached is not None and cached.catalog.digest == pointer.catalog:
            catalog = cached.catalog
        else:
            data = await read_catalog(self._reader, pointer.catalog)
            catalog = await asyncio.to_thread(parse_catalog, data, catalog_path(pointer.catalog))
        confirmed_s = self._wall_s()
        await asyncio.to_thread(self._cache.write, envelope, pointer, data, confirmed_s)
        return Followed(catalog, pointer.serial, confirmed_s)

    def _rolled_back(self, pointer: Pointer, seen: Pointer) -> TrustError:
        if pointer.serial == seen.serial:
            return TrustError(
                "catalog_equivocated",
                f"{self.where} names the catalog {pointer.catalog[:19]} as serial {pointer.serial}, this host has seen"
                f" {seen.catalog[:19]} under that serial",
                "promote the right catalog again, and find the publisher of two catalogs under one serial",
            )
        return TrustError(
            "catalog_rolled_back",
            f"{self.where} is at serial {pointer.serial}, this host has seen {seen.serial}",
            "to return to an older catalog, promote that catalog again; for a new registry at the same address remove"
            f" {self._cache.folder}; otherwise find the source of replayed answers",
        )

    def _silent(self, within_s: float) -> ArtifactError:
        return ArtifactError(
            "catalog_unreachable",
            f"{self.where} did not answer within {within_s:g} s",
            "check the network between the registry and this host",
            retryable=True,
        )

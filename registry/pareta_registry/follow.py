"""A node's view of a published channel: the newest catalog that it trusts, or the last good one while offline.

Refuses what is unsigned (when keys are pinned), altered, or older than what this host has seen. What was taken
is kept on disk with its envelope and checked again when it is read back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pareta_registry.catalog import Catalog
from pareta_registry.channel import MAX_BYTES, Pointer, catalog_path, channel_path, read_catalog, read_pointer
from pareta_registry.document_store import DocumentReader
from pareta_registry.errors import ArtifactError, RegistryFailure, TrustError
from pareta_registry.keep import CatalogKeep, Kept
from pareta_registry.keys import PublicKey
from pareta_registry.load import parse_catalog
from pareta_registry.open_documents import open_documents
from pareta_registry.stores.settings import StoreSettings

LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class Followed:
    """A trusted catalog. `confirmed_s` is the wall time at which the channel last said so; `refusal` is why a
    newer answer was not taken, None when there was none or it was."""

    catalog: Catalog
    serial: int
    confirmed_s: float
    refusal: RegistryFailure | None = None

    def age_s(self, now_s: float) -> float:
        return max(0.0, now_s - self.confirmed_s)


class CatalogFollower:
    """Follows `channel` at `source` (`file://`, `oci://`, `https://`), keeping the last good state in `state_dir`."""

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
        self._keep = CatalogKeep(state_dir, source, channel)
        self._trusted = tuple(trusted)
        self._wall_s = wall_s

    async def refresh(self, within_s: float = LOOK_S) -> Followed:
        """The newest trusted catalog. While the channel is away or says what is refused: the last good one, with
        the reason; the reason itself is raised when there is no last good one."""
        kept = await asyncio.to_thread(self._keep.read, self._trusted)
        try:
            async with asyncio.timeout(within_s):
                return await self._look(kept)
        except TimeoutError:
            refusal: RegistryFailure = self._silent(within_s)
        except RegistryFailure as error:
            refusal = error
        if kept is None:
            raise refusal
        return Followed(kept.catalog, kept.serial, kept.confirmed_s, refusal)

    async def close(self) -> None:
        await self._reader.close()

    async def _look(self, kept: Kept | None) -> Followed:
        envelope = await self._reader.read(channel_path(self._channel), MAX_BYTES)
        pointer = read_pointer(envelope, self._channel, self._trusted, self.where)
        seen = await asyncio.to_thread(self._keep.pointer)
        if seen is not None and not pointer.follows(seen):
            raise self._rolled_back(pointer, seen)
        data = None
        if kept is not None and kept.catalog.digest == pointer.catalog:
            catalog = kept.catalog
        else:
            data = await read_catalog(self._reader, pointer.catalog)
            catalog = await asyncio.to_thread(parse_catalog, data, catalog_path(pointer.catalog))
        confirmed_s = self._wall_s()
        await asyncio.to_thread(self._keep.write, envelope, pointer, data, confirmed_s)
        return Followed(catalog, pointer.serial, confirmed_s)

    def _rolled_back(self, pointer: Pointer, seen: Pointer) -> TrustError:
        if pointer.serial == seen.serial:
            return TrustError(
                "catalog_equivocated",
                f"{self.where} names the catalog {pointer.catalog[:19]} as serial {pointer.serial}, this host has seen"
                f" {seen.catalog[:19]} under that serial",
                "promote the right one anew, and find out who published two under one serial",
            )
        return TrustError(
            "catalog_rolled_back",
            f"{self.where} is at serial {pointer.serial}, this host has seen {seen.serial}",
            "to go back to an older catalog promote it anew; where the place itself was set up anew remove"
            f" {self._keep.folder}; otherwise find out who replays old answers",
        )

    def _silent(self, within_s: float) -> ArtifactError:
        return ArtifactError(
            "catalog_unreachable",
            f"{self.where} did not answer within {within_s:g} s",
            "check the network between it and this host",
            retryable=True,
        )

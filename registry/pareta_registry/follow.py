"""A node's view of a published channel: the newest catalog that it trusts, or the last good one while offline.

Refuses what is unsigned (when keys are pinned), altered, or older than what this host has seen. What was taken
is kept on disk with its envelope and checked again when it is read back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pareta_registry.canonical import sha256_digest
from pareta_registry.catalog import Catalog
from pareta_registry.channel import (
    MAX_BYTES,
    Pointer,
    catalog_path,
    channel_path,
    read_catalog,
    read_pointer,
)
from pareta_registry.documents import DocumentReader, open_documents, write_whole
from pareta_registry.errors import RegistryFailure, TrustError
from pareta_registry.keys import PublicKey
from pareta_registry.load import parse_catalog
from pareta_registry.stores.settings import StoreSettings


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
        self._where = f"{source.rstrip('/')}/{channel_path(channel)}"
        self._channel = channel
        self._reader: DocumentReader = open_documents(source, settings or StoreSettings())
        # What was seen at one place says nothing of another: its serials are its own.
        self._state = state_dir / sha256_digest(source.encode()).removeprefix("sha256:")[:16]
        self._trusted = tuple(trusted)
        self._wall_s = wall_s

    async def refresh(self) -> Followed:
        """The newest trusted catalog. While the channel is away or says what is refused: the last good one, with
        the reason; the reason itself is raised when there is no last good one."""
        seen_serial, kept = await asyncio.to_thread(self._kept)
        try:
            envelope = await self._reader.read(channel_path(self._channel), MAX_BYTES)
            pointer = read_pointer(envelope, self._channel, self._trusted, self._where)
            if pointer.serial < seen_serial:
                raise TrustError(
                    "catalog_rolled_back",
                    f"{self._where} is at serial {pointer.serial}, this host has seen {seen_serial}",
                    "to go back to an older catalog promote it anew; otherwise find out who replays old answers",
                )
            same = kept is not None and kept.catalog.digest == pointer.catalog
            catalog = kept.catalog if kept and same else await self._fetch(pointer)
        except RegistryFailure as error:
            if kept is None:
                raise
            return replace(kept, refusal=error)
        confirmed_s = self._wall_s()
        await asyncio.to_thread(self._keep, envelope, pointer, confirmed_s)
        return Followed(catalog, pointer.serial, confirmed_s)

    async def close(self) -> None:
        await self._reader.close()

    async def _fetch(self, pointer: Pointer) -> Catalog:
        data = await read_catalog(self._reader, pointer.catalog)
        catalog = parse_catalog(data, catalog_path(pointer.catalog))
        await asyncio.to_thread(write_whole, self._state / catalog_path(pointer.catalog), data)
        return catalog

    def _kept(self) -> tuple[int, Followed | None]:
        """The highest serial that was taken (0: none), and that state if it still passes all checks."""
        path = self._state / channel_path(self._channel)
        serial = 0
        try:
            pointer = read_pointer(path.read_bytes(), self._channel, self._trusted, str(path))
            serial, confirmed_s = pointer.serial, path.stat().st_mtime
            data = (self._state / catalog_path(pointer.catalog)).read_bytes()
            if sha256_digest(data) == pointer.catalog:
                return serial, Followed(parse_catalog(data, str(self._state)), serial, confirmed_s)
        except (OSError, RegistryFailure):
            pass
        return serial, None

    def _keep(self, envelope: bytes, pointer: Pointer, confirmed_s: float) -> None:
        """Switches the pointer last, then drops the catalogs that it does not mean."""
        path = self._state / channel_path(self._channel)
        if not path.is_file() or path.read_bytes() != envelope:
            write_whole(path, envelope)
        os.utime(path, (confirmed_s, confirmed_s))
        current = self._state / catalog_path(pointer.catalog)
        for other in current.parent.glob("sha256-*.json"):
            if other != current:
                other.unlink(missing_ok=True)

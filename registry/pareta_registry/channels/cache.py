"""Catalog cache: stores a channel's last good catalog and highest serial on the host's disk.

Several processes of a host may write; the serial never falls, in any order of writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pareta_registry.catalog import Catalog
from pareta_registry.channels.channel import Pointer, catalog_path, channel_path, read_pointer
from pareta_registry.documents.canonical import sha256_digest
from pareta_registry.errors import RegistryFailure
from pareta_registry.files import FileLock, write_atomically
from pareta_registry.load import parse_catalog
from pareta_registry.signing.keys import PublicKey


@dataclass(frozen=True, slots=True)
class CachedCatalog:
    """A trusted catalog, and the wall time of the channel's last confirmation."""

    catalog: Catalog
    serial: int
    confirmed_s: float


class CatalogCache:
    """The part of `root` for `channel` at `source`. Serials of two sources are independent."""

    def __init__(self, root: Path, source: str, channel: str) -> None:
        self.folder = root / sha256_digest(f"{source} {channel}".encode()).removeprefix("sha256:")[:16]
        self._channel = channel
        self._pointer = self.folder / channel_path(channel)

    def pointer(self) -> Pointer | None:
        """The last trusted pointer, whatever its key: an older pointer is refused."""
        return self._read_pointer(())

    def serial(self) -> int:
        """The highest trusted serial, whatever its key; 0 for none."""
        pointer = self.pointer()
        return pointer.serial if pointer else 0

    def stamp(self) -> int:
        """Changes with every successful look at the channel; 0 before the first."""
        try:
            return self._pointer.stat().st_mtime_ns
        except OSError:
            return 0

    def read(self, trusted: Sequence[PublicKey] = ()) -> CachedCatalog | None:
        """The last trusted catalog, if whole and signed by a key of `trusted`."""
        pointer = self._read_pointer(trusted)
        if pointer is None:
            return None
        try:
            confirmed_s = self._pointer.stat().st_mtime
            data = (self.folder / catalog_path(pointer.catalog)).read_bytes()
            if sha256_digest(data) == pointer.catalog:
                return CachedCatalog(parse_catalog(data, str(self.folder)), pointer.serial, confirmed_s)
        except (OSError, RegistryFailure):
            pass
        return None

    def write(self, envelope: bytes, pointer: Pointer, catalog: bytes | None, confirmed_s: float) -> None:
        """Stores a pointer and its catalog (None: already stored). Without effect if a newer pointer is stored.

        The pointer is replaced last; other catalogs are removed afterwards.
        """
        with self._locked():
            seen = self.pointer()
            if seen is not None and not pointer.follows(seen):
                return
            current = self.folder / catalog_path(pointer.catalog)
            current.parent.mkdir(parents=True, exist_ok=True)
            if catalog is not None:
                write_atomically(current, catalog)
            self._pointer.parent.mkdir(parents=True, exist_ok=True)
            if not self._pointer.is_file() or self._pointer.read_bytes() != envelope:
                write_atomically(self._pointer, envelope)
            os.utime(self._pointer, (confirmed_s, confirmed_s))
            for other in current.parent.glob("sha256-*.json"):
                if other != current:
                    other.unlink(missing_ok=True)

    def _read_pointer(self, trusted: Sequence[PublicKey]) -> Pointer | None:
        try:
            return read_pointer(self._pointer.read_bytes(), self._channel, trusted, str(self._pointer))
        except (OSError, RegistryFailure):
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock", mode=0o666):  # a group may share the cache
            yield

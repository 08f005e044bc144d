"""What a host keeps of a channel on its disk: the last good catalog, and the highest serial that it has seen.

Several processes of one host may keep at once; the serial never falls, whichever of them is last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pareta_registry.canonical import sha256_digest
from pareta_registry.catalog import Catalog
from pareta_registry.channel import Pointer, catalog_path, channel_path, read_pointer
from pareta_registry.errors import RegistryFailure
from pareta_registry.files import FileLock, write_atomically
from pareta_registry.keys import PublicKey
from pareta_registry.load import parse_catalog


@dataclass(frozen=True, slots=True)
class Kept:
    """A catalog that was taken, and the wall time at which the channel last said so."""

    catalog: Catalog
    serial: int
    confirmed_s: float


class CatalogKeep:
    """The part of `root` that belongs to `channel` at `source`: what was seen at one place says nothing of another."""

    def __init__(self, root: Path, source: str, channel: str) -> None:
        self.folder = root / sha256_digest(f"{source} {channel}".encode()).removeprefix("sha256:")[:16]
        self._channel = channel
        self._pointer = self.folder / channel_path(channel)

    def pointer(self) -> Pointer | None:
        """What was taken last, whoever signed it: nothing older is taken any more."""
        return self._read_pointer(())

    def serial(self) -> int:
        """The highest serial that was taken, whoever signed it; 0 for none."""
        pointer = self.pointer()
        return pointer.serial if pointer else 0

    def stamp(self) -> int:
        """Changes whenever the channel was looked at with success; 0 before that."""
        try:
            return self._pointer.stat().st_mtime_ns
        except OSError:
            return 0

    def read(self, trusted: Sequence[PublicKey] = ()) -> Kept | None:
        """What was taken last, if it is whole and passes all checks."""
        pointer = self._read_pointer(trusted)
        if pointer is None:
            return None
        try:
            confirmed_s = self._pointer.stat().st_mtime
            data = (self.folder / catalog_path(pointer.catalog)).read_bytes()
            if sha256_digest(data) == pointer.catalog:
                return Kept(parse_catalog(data, str(self.folder)), pointer.serial, confirmed_s)
        except (OSError, RegistryFailure):
            pass
        return None

    def write(self, envelope: bytes, pointer: Pointer, catalog: bytes | None, confirmed_s: float) -> None:
        """Takes a pointer and the catalog that it means (None: it is here); less than what was seen is left out.

        The pointer is switched last; catalogs that it does not mean go after it.
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

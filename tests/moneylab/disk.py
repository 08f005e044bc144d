"""A disk that can be cut, filled, broken or slowed, under the spool's SQLite (an apsw VFS over the real one).

Power cut: what was written since the last sync of its file is lost, or survives in part and in any order, as real
disks do. The shared-memory file never survives.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw


@dataclass(slots=True)
class Disk:
    """Make one, open the spool with `vfs=disk.name`, then turn its knobs."""

    name: str
    full: bool = False
    full_beside: Path | None = None  # no space while this file takes it
    sync_fails: bool = False
    sync_takes_s: float = 0.0
    drops_sync: bool = False
    keeps_images: bool = True  # False: no power cuts, for benchmarks
    watch: Callable[[], None] | None = None
    syncs: int = 0
    durable: dict[str, bytes] = field(default_factory=dict)
    pending: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    _vfs: _Vfs | None = None

    def __post_init__(self) -> None:
        self._vfs = _Vfs(self)

    def platter(self) -> Platter:
        """What is where at this moment."""
        return Platter(dict(self.durable), {path: list(writes) for path, writes in self.pending.items()})


@dataclass(frozen=True, slots=True)
class Platter:
    """A disk's content: what was synced, and what was written since, by path."""

    durable: dict[str, bytes]
    pending: dict[str, list[tuple[int, bytes]]]

    def power_cut(self, into: Path, keep: random.Random | None = None) -> None:
        """Writes what is left without power into `into`.

        With `keep`, each unsynced write survives with even odds, in its order; a survivor may be torn.
        """
        into.mkdir(parents=True, exist_ok=True)
        for path, image in self.durable.items():
            content = bytearray(image)
            for offset, data in self.pending.get(path, []) if keep else []:
                if keep is not None and keep.random() < 0.5:
                    data = data[: keep.randrange(len(data) + 1)] if keep.random() < 0.2 else data
                    content[len(content) :] = bytes(max(0, offset + len(data) - len(content)))
                    content[offset : offset + len(data)] = data
            (into / Path(path).name).write_bytes(content)


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: object, flags: list[int]) -> _File:
        return _File(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.disk.durable.pop(filename, None)
        self.disk.pending.pop(filename, None)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: object, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk = disk
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self.disk.watch is not None:
            self.disk.watch()
        beside = self.disk.full_beside
        if self.disk.full or (beside is not None and beside.exists()):
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)
        if self.disk.keeps_images:
            self.disk.pending.setdefault(self.path, []).append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self.disk.pending.setdefault(self.path, [])

    def xSync(self, flags: int) -> None:
        self.disk.syncs += 1
        if self.disk.sync_takes_s:
            time.sleep(self.disk.sync_takes_s)
        if self.disk.sync_fails:
            raise apsw.IOError("fsync failed")
        if self.disk.drops_sync:
            return
        super().xSync(flags)
        if self.disk.keeps_images:
            self.disk.durable[self.path] = Path(self.path).read_bytes()
            self.disk.pending[self.path] = []
        if self.disk.watch is not None:
            self.disk.watch()

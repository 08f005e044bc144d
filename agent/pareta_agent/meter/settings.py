"""Spool settings: location, limits and statistics of the spool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def spool_path(home: Path) -> Path:
    """Returns the path of the spool under an agent's home."""
    return home / "spool" / "spool.db"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """`node` names the source of the events. Sizes are bytes; `vfs` names an apsw VFS (tests).

    An admission may wait `admission_delay_s` for the record of the same request. After a commit of `group_from`
    records, the next commit waits `group_wait_s` for more records.
    """

    node: str
    max_bytes: int = 2 * 2**30
    reserve_bytes: int = 8 * 2**20
    disk_reserve_bytes: int = 64 * 2**20
    admission_delay_s: float = 0.005
    group_wait_s: float = 0.003
    group_from: int = 4
    keep_acked_s: float = 7 * 86400.0
    batch: int = 512
    vfs: str | None = None


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """`admitted = terminal + open` since the spool was opened; requests that were open then count as admitted.

    `epoch` and `last_seq` are 0 while no epoch is known; `unacked` counts numbered and staged events.
    """

    epoch: int
    last_seq: int
    last_hash: str
    acked_seq: int
    admitted: int
    terminal: int
    open: int
    unacked: int
    quarantined: int
    bytes: int
    used_ratio: float
    failed: bool

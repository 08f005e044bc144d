"""Where the spool is and how large it may grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def spool_path(home: Path) -> Path:
    """Where an agent's home keeps its spool."""
    return home / "spool" / "spool.db"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """`node` names the source of the events. Sizes are bytes; `vfs` names an apsw VFS (tests)."""

    node: str
    max_bytes: int = 2 * 2**30
    reserve_bytes: int = 8 * 2**20
    disk_reserve_bytes: int = 64 * 2**20
    admission_delay_s: float = 0.005
    keep_acked_s: float = 7 * 86400.0
    batch: int = 512
    vfs: str | None = None

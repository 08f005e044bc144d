"""Where the spool is and how large it may grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def spool_path(home: Path) -> Path:
    """Where an agent's home keeps its spool."""
    return home / "spool" / "spool.db"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """`node` names the source of the events. Sizes are bytes; `vfs` names an apsw VFS (tests).

    An admission may wait `admission_delay_s` for its record; after a commit of `crowd` records the next one waits
    `company_s` for more of them.
    """

    node: str
    max_bytes: int = 2 * 2**30
    reserve_bytes: int = 8 * 2**20
    disk_reserve_bytes: int = 64 * 2**20
    admission_delay_s: float = 0.005
    company_s: float = 0.003
    crowd: int = 4
    keep_acked_s: float = 7 * 86400.0
    batch: int = 512
    vfs: str | None = None

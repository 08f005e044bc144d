"""What the spool says of itself, for heartbeats, metrics and people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """`admitted = terminal + open` since the spool was opened; requests found open then count as admitted.

    `epoch` is 0 and `last_seq` 0 while no epoch is known; `unacked` counts numbered and staged events.
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

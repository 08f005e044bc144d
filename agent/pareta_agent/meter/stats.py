"""Spool statistics: counts for heartbeats, metrics and operators."""

from __future__ import annotations

from dataclasses import dataclass


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

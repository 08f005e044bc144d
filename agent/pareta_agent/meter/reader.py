"""Spool reader: reads a spool on a connection of its own, for the uplink and for commands beside an agent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.contract.usage_event import SpoolEntry
from pareta_agent.meter.sqlite_store import SEQUENCE_BITS, connect, key_of, place_of, span_of

_COLUMNS = "key, prev_hash, hash, body"
_FIRST_UNACKED = """
SELECT epoch, acked_seq FROM epochs
WHERE EXISTS (SELECT 1 FROM events WHERE key > (epoch << ?1) + acked_seq AND key < (epoch + 1) << ?1)
ORDER BY epoch LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class EpochRow:
    epoch: int
    first_kept: int | None
    last_seq: int
    acked_seq: int


class SpoolReader:
    """Usable from any thread, one at a time; never writes."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._connection = connect(path, vfs)
        self._connection.execute("PRAGMA query_only=1")
        self._lock = threading.Lock()

    def unacked(self, limit: int) -> list[SpoolEntry]:
        """Returns the oldest entries without an acknowledgement, all of one epoch."""
        with self._lock:
            first = list(self._connection.execute(_FIRST_UNACKED, (SEQUENCE_BITS,)))
            if not first:
                return []
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
                (key_of(first[0][0], first[0][1] + 1), span_of(first[0][0])[1], limit),
            )
            return [_entry(row) for row in rows]

    def every(self) -> Iterator[SpoolEntry]:
        """Yields all stored entries in order; holds a snapshot until the end."""
        with self._lock:
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY key"):
                yield _entry(row)

    def epochs(self) -> list[EpochRow]:
        with self._lock:
            return [
                self._epoch(*row)
                for row in list(self._connection.execute("SELECT epoch, acked_seq FROM epochs"))
            ]

    def undelivered(self) -> int:
        """Returns the number of records without an acknowledgement, numbered or staged."""
        with self._lock:
            staged = self._count("staged")
        return staged + sum(max(0, row.last_seq - row.acked_seq) for row in self.epochs())

    def open_requests(self) -> int:
        with self._lock:
            return self._count("admitted")

    def quarantined(self) -> list[tuple[int, int, str]]:
        """Returns (epoch, sequence, reason) of events that the plane refused or that were found damaged."""
        with self._lock:
            rows = self._connection.execute("SELECT key, reason FROM quarantine ORDER BY key")
            return [(*place_of(key), reason) for key, reason in rows]

    def close(self) -> None:
        self._connection.close()

    def _count(self, table: str) -> int:
        (found,) = next(self._connection.execute(f"SELECT count(*) FROM {table}"))
        return int(found)

    def _epoch(self, epoch: int, acked_seq: int) -> EpochRow:
        query = "SELECT min(key), max(key) FROM events WHERE key BETWEEN ? AND ?"
        first, last = next(self._connection.execute(query, span_of(epoch)))
        if first is None:
            return EpochRow(epoch, None, acked_seq, acked_seq)
        return EpochRow(epoch, place_of(first)[1], place_of(last)[1], acked_seq)


def _entry(row: tuple[int, bytes, bytes, bytes]) -> SpoolEntry:
    return SpoolEntry(*place_of(row[0]), *row[1:])

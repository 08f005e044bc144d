"""Spool store: the spool's SQLite file in WAL mode, every commit durable before the return. The only address of apsw.

The store has transactions and rows; threads, futures and policy belong to the spool.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw  # noqa: TID251

from pareta_agent.contract.usage_event import NO_HASH, Item, SpoolEntry, canonical, chain
from pareta_agent.errors import HostError

FORMAT = 1
ROWS_AT_ONCE = 32
SEQUENCE_BITS = 40  # an event's key holds epoch and sequence, so that the table only grows at the end

DiskFull = apsw.FullError
DiskError = apsw.IOError
Damaged = (apsw.CorruptError, apsw.NotADBError)
StoreError = apsw.Error
Connection = apsw.Connection

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, acked_seq INTEGER NOT NULL, acked_hash BLOB NOT NULL);
CREATE TABLE admitted (request_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE staged (id INTEGER PRIMARY KEY, type TEXT NOT NULL, time TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE events (
  key INTEGER PRIMARY KEY, prev_hash BLOB NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL, at_s INTEGER NOT NULL
);
CREATE TABLE quarantine (key INTEGER PRIMARY KEY, reason TEXT NOT NULL, at_s INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of an epoch's chain."""

    epoch: int
    sequence: int
    hash: bytes


class SpoolStore:
    """One spool file, for one thread at a time."""

    def __init__(self, path: Path, node: str, spool_id: str, vfs: str | None = None) -> None:
        """Opens or makes the file. Raises HostError for another format or node, apsw errors for the disk."""
        self._writer = connect(path, vfs)
        self.spool_id = self._prepare(path, node, spool_id)
        self.source = f"//pareta/node/{node}/spool/{self.spool_id}"

    def _prepare(self, path: Path, node: str, spool_id: str) -> str:
        if not self._writer.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get:
            with self.transaction():
                self._writer.execute(_SCHEMA)
                rows = {"format": FORMAT, "spool_id": spool_id, "node": node}
                self._writer.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
        meta = dict(self._writer.execute("SELECT key, value FROM meta"))
        if meta.get("format") != FORMAT:
            raise HostError(
                "spool_format",
                f"{path} was written by another version (format {meta.get('format')})",
                "start the version that wrote it",
            )
        if meta["node"] != node:
            raise HostError(
                "spool_of_another_node",
                f"{path} is the spool of node {meta['node']}, not of {node}",
                "start with that node's id, or give this node a home of its own",
            )
        return str(meta["spool_id"])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits all or nothing; durable at the return."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def check(self) -> None:
        """Reads the whole file; closes the file and raises one of `Damaged` when the structure is broken."""
        found = self._writer.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            self.close()
            raise apsw.CorruptError(str(found))

    # admissions

    def add_admitted(self, rows: Sequence[tuple[str, bytes]]) -> None:
        self._writer.executemany("INSERT OR REPLACE INTO admitted VALUES (?, ?)", rows)

    def drop_admitted(self, request_ids: Sequence[str]) -> None:
        self._writer.executemany(
            "DELETE FROM admitted WHERE request_id = ?", [(each,) for each in request_ids]
        )

    def admitted(self) -> list[bytes]:
        return [body for (body,) in self._writer.execute("SELECT body FROM admitted ORDER BY request_id")]

    # the chain

    def begin(self, epoch: int) -> ChainHead:
        self._writer.execute("INSERT INTO epochs VALUES (?, 0, ?)", (epoch, NO_HASH))
        return ChainHead(epoch, 0, NO_HASH)

    def append(self, head: ChainHead | None, items: Iterable[Item], at_s: int) -> ChainHead | None:
        """Adds items to the chain's end and returns the new end; without a chain, stages the items and returns None."""
        if head is None:
            rows = [(each.type, each.time, each.data) for each in items]
            self._writer.executemany("INSERT INTO staged (type, time, data) VALUES (?, ?, ?)", rows)
            return None
        events = []
        for each in items:
            sequence = head.sequence + 1
            body = canonical(each, self.source, head.epoch, sequence)
            previous, head = head.hash, ChainHead(head.epoch, sequence, chain(head.hash, body))
            events.append((key_of(head.epoch, sequence), previous, head.hash, body, at_s))
        for at in range(0, len(events), ROWS_AT_ONCE):
            _add_events(self._writer, events[at : at + ROWS_AT_ONCE])
        return head

    def unstage(self, limit: int) -> list[Item]:
        """Removes and returns the oldest staged items."""
        rows = list(
            self._writer.execute("SELECT id, type, time, data FROM staged ORDER BY id LIMIT ?", (limit,))
        )
        self._writer.executemany("DELETE FROM staged WHERE id = ?", [(row[0],) for row in rows])
        return [Item(*row[1:]) for row in rows]

    def staged(self) -> int:
        return int(self._writer.execute("SELECT count(*) FROM staged").get)

    def heads(self) -> dict[int, ChainHead]:
        """Returns the end of each chain, by epoch; a chain without stored entries ends at the acknowledged sequence."""
        found = {}
        for epoch, acked_seq, acked_hash in self._writer.execute("SELECT * FROM epochs ORDER BY epoch"):
            last = self._writer.execute(
                "SELECT key, hash FROM events WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
                span_of(epoch),
            ).get
            sequence, digest = (place_of(last[0])[1], last[1]) if last else (acked_seq, acked_hash)
            found[epoch] = ChainHead(epoch, sequence, digest)
        return found

    def unacked_entries(self, epoch: int) -> Iterator[SpoolEntry]:
        rows = self._writer.execute(
            "SELECT key, prev_hash, hash, body FROM events WHERE key > ? AND key <= ? ORDER BY key",
            (key_of(epoch, self.acked()[epoch]), span_of(epoch)[1]),
        )
        return (SpoolEntry(*place_of(row[0]), *row[1:]) for row in rows)

    def acked_hash(self, epoch: int) -> bytes:
        found = self._writer.execute("SELECT acked_hash FROM epochs WHERE epoch = ?", (epoch,)).get
        return bytes(found)

    def repair(self, entry: SpoolEntry) -> None:
        self._writer.execute(
            "UPDATE events SET prev_hash = ?, hash = ?, body = ? WHERE key = ?",
            (entry.prev_hash, entry.hash, entry.body, key_of(entry.epoch, entry.sequence)),
        )

    # delivery

    def acked(self) -> dict[int, int]:
        return dict(self._writer.execute("SELECT epoch, acked_seq FROM epochs"))

    def hash_of(self, epoch: int, sequence: int) -> bytes | None:
        """Returns the hash that the next entry chains to; None when neither this entry nor the next is stored."""
        if sequence == 0:
            return NO_HASH
        found = self._writer.execute(
            "SELECT CASE key WHEN ?1 THEN hash ELSE prev_hash END FROM events"
            " WHERE key IN (?1, ?1 + 1) ORDER BY key LIMIT 1",
            (key_of(epoch, sequence),),
        ).get
        return bytes(found) if isinstance(found, bytes) else None

    def set_acked(self, epoch: int, sequence: int, digest: bytes) -> None:
        self._writer.execute(
            "UPDATE epochs SET acked_seq = ?, acked_hash = ? WHERE epoch = ?", (sequence, digest, epoch)
        )

    def first_sequence(self, epoch: int) -> int | None:
        found = self._writer.execute(
            "SELECT min(key) FROM events WHERE key BETWEEN ? AND ?", span_of(epoch)
        ).get
        return None if found is None else place_of(found)[1]

    def quarantine(self, epoch: int, rejected: Iterable[tuple[int, str]], at_s: int) -> None:
        rows = [(key_of(epoch, sequence), reason[:200], at_s) for sequence, reason in rejected]
        self._writer.executemany("INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?)", rows)

    def quarantined(self) -> int:
        return int(self._writer.execute("SELECT count(*) FROM quarantine").get)

    def trim(self, before_s: int, limit: int) -> int:
        """Removes up to `limit` acknowledged events written before `before_s`; returns the number removed."""
        gone = 0
        for epoch, acked_seq in self.acked().items():
            low, _ = span_of(epoch)
            self._writer.execute(
                "DELETE FROM events WHERE key IN (SELECT key FROM events WHERE key BETWEEN ? AND ? AND at_s < ?"
                " ORDER BY key LIMIT ?)",
                (low, key_of(epoch, acked_seq), before_s, limit - gone),
            )
            gone += self._writer.changes()
        return gone

    def forget_epochs(self) -> None:
        """Removes epochs without stored events, except the newest."""
        self._writer.execute(
            "DELETE FROM epochs WHERE epoch < (SELECT max(epoch) FROM epochs) AND NOT EXISTS"
            " (SELECT 1 FROM events WHERE key BETWEEN epoch << ?1 AND ((epoch + 1) << ?1) - 1)",
            (SEQUENCE_BITS,),
        )

    # room

    def used_bytes(self) -> int:
        pages, free, size = (
            self._writer.execute(f"PRAGMA {name}").get
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        self._writer.close()


def connect(path: Path, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.set_busy_timeout(2000)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def key_of(epoch: int, sequence: int) -> int:
    return (epoch << SEQUENCE_BITS) + sequence


def place_of(key: int) -> tuple[int, int]:
    return key >> SEQUENCE_BITS, key & ((1 << SEQUENCE_BITS) - 1)


def span_of(epoch: int) -> tuple[int, int]:
    return key_of(epoch, 0), key_of(epoch + 1, 0) - 1


def _add_events(connection: apsw.Connection, rows: Sequence[tuple[int, bytes, bytes, bytes, int]]) -> None:
    """Adds all rows by one statement: each statement releases the interpreter lock and competes for the lock again."""
    values = ", ".join(["(?, ?, ?, ?, ?)"] * len(rows))
    connection.execute(f"INSERT INTO events VALUES {values}", tuple(itertools.chain.from_iterable(rows)))

"""Spool salvage: reads the intact rows of a damaged spool file, and renames the file for inspection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from ulid import ULID

from pareta_agent.clock import Clock
from pareta_agent.contract.usage_event import FINISHED, QUARANTINED, Item, SpoolEntry, item
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.sqlite_store import Connection, Damaged, SpoolStore, StoreError, connect, place_of

_CHECKED_AT_OPEN_BYTES = 16 * 2**20  # a larger file is checked only after a read or a write found damage


@dataclass(frozen=True, slots=True)
class Salvage:
    """`items` are usage records to send again: the plane counts a request once. `admitted` has open requests."""

    items: tuple[Item, ...]
    admitted: tuple[tuple[str, bytes], ...]
    aside: Path


def sound_store(path: Path, settings: SpoolSettings, clock: Clock) -> tuple[SpoolStore, tuple[Item, ...]]:
    """Opens or makes the spool's file. A damaged file is renamed, and the intact rows move to a new file."""
    suspect = path.with_suffix(".suspect")
    salvaged: tuple[Item, ...] = ()
    try:
        store = SpoolStore(path, settings.node, str(ULID()), settings.vfs)
        if suspect.exists() or store.used_bytes() <= _CHECKED_AT_OPEN_BYTES:
            store.check()
    except Damaged as error:
        found = salvage(path, settings.vfs, int(clock.wall_s()))
        notice = {"replaces": False, "reason": str(error), "salvaged": len(found.items)}
        salvaged = (*found.items, item(QUARANTINED, notice, clock.wall_s()))
        store = SpoolStore(path, settings.node, str(ULID()), settings.vfs)
        with store.transaction():
            store.add_admitted(found.admitted)
    suspect.unlink(missing_ok=True)
    return store, salvaged


def salvage(path: Path, vfs: str | None, stamp: int) -> Salvage:
    """Reads the file, then renames the file and the write-ahead log to `….damaged-<stamp>`."""
    items: list[Item] = []
    admitted: list[tuple[str, bytes]] = []
    with contextlib.suppress(StoreError):
        _read(path, vfs, items, admitted)
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return Salvage(tuple(items), tuple(admitted), aside)


def _read(path: Path, vfs: str | None, items: list[Item], admitted: list[tuple[str, bytes]]) -> None:
    connection = connect(path, vfs)
    try:
        acked: dict[int, int] = {}
        with contextlib.suppress(*Damaged):
            acked = dict(connection.execute("SELECT epoch, acked_seq FROM epochs"))
        with contextlib.suppress(*Damaged):
            for kind, time, data in connection.execute("SELECT type, time, data FROM staged ORDER BY id"):
                items.append(Item(kind, time, data))
        items.extend(_usage_records(connection, acked))
        with contextlib.suppress(*Damaged):
            admitted.extend(connection.execute("SELECT request_id, body FROM admitted"))
    finally:
        connection.close()


def _usage_records(connection: Connection, acked: dict[int, int]) -> Iterator[Item]:
    """Reads from both ends, since a broken page ends a walk from either side."""
    seen: set[int] = set()
    for direction in ("ASC", "DESC"):
        with contextlib.suppress(*Damaged):
            for key, previous, digest, body in connection.execute(
                f"SELECT key, prev_hash, hash, body FROM events ORDER BY key {direction}"
            ):
                if key in seen:
                    break
                seen.add(key)
                epoch, sequence = place_of(key)
                entry = SpoolEntry(epoch, sequence, previous, digest, body)
                if sequence > acked.get(epoch, 0) and entry.intact and (found := _usage(entry)):
                    yield found


def _usage(entry: SpoolEntry) -> Item | None:
    event = orjson.loads(entry.body)
    if event["type"] != FINISHED:
        return None
    return Item(FINISHED, event["time"], orjson.dumps(event["data"], option=orjson.OPT_SORT_KEYS))

"""Ledger: turns usage into money: rows, debits and the sequence commit in one transaction, once per identity.

The ledger takes only the next entry of a chain, with an unbroken hash. No notion of HTTP.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, case, select, update

from pareta_agent.clock import Clock
from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.usage_event import FINISHED, NO_HASH, QUARANTINED, SpoolEntry, parse_wire
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.ledger_rows import ledger_row, timing_row
from pareta_agent.plane.store.orgs import partial_policies
from pareta_agent.plane.store.schema import (
    chains,
    endpoints,
    events,
    gaps,
    leases,
    ledger,
    orgs,
    rejections,
    timings,
)


@dataclass(frozen=True, slots=True)
class Taken:
    """The batch is committed up to `acked_seq`."""

    epoch: int
    acked_seq: int
    hash: str
    duplicates: int
    rejected: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """No event was taken. With `expected_seq` the sender rewinds; without, the batch itself is invalid."""

    reason: str
    expected_seq: int | None = None


@dataclass(slots=True)
class _Work:
    """The changes of one batch."""

    ledger: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    debits: Counter[str] = field(default_factory=Counter)


class Ledger:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def take(self, node: str, batch: list[dict[str, Any]], resync: bool = False) -> Taken | BatchRefused:
        """Commits a batch of events of one source and epoch, in order; repeated events count as duplicates.

        With `resync` the first fresh event may follow a gap, since the sender has lost the missing events; the gap is
        recorded.
        """
        try:
            entries = [parse_wire(event) for event in batch]
            sources = {(event["source"], entry.epoch) for event, entry in zip(batch, entries, strict=True)}
            if not all(isinstance(event["data"], dict) and isinstance(event["type"], str) for event in batch):
                raise TypeError("data")
        except (KeyError, TypeError, ValueError) as error:
            return BatchRefused(f"not a batch of spool events: {type(error).__name__}")
        if len(sources) != 1:
            return BatchRefused("a batch holds the events of one source and epoch")
        source, epoch = sources.pop()
        if not str(source).startswith(f"//pareta/node/{node}/spool/"):
            return BatchRefused("the source is not this node's")
        with self._database.write() as connection:
            pairs = list(zip(entries, batch, strict=True))
            return self._take(connection, node, source, epoch, pairs, resync)

    def _take(
        self,
        connection: Connection,
        node: str,
        source: str,
        epoch: int,
        batch: list[tuple[SpoolEntry, dict[str, Any]]],
        resync: bool,
    ) -> Taken | BatchRefused:
        mine = (chains.c.source == source) & (chains.c.epoch == epoch)
        found = connection.execute(select(chains).where(mine).with_for_update()).first()
        last, digest = (found.last_seq, found.last_hash) if found else (0, NO_HASH.hex())
        fresh = [pair for pair in batch if pair[0].sequence > last]
        tail = batch[-1][0]
        if not fresh and tail.sequence < last:  # a rolled-back spool may end before the chain's end
            return Taken(epoch, tail.sequence, tail.hash.hex(), len(batch), ())
        start = (last, digest)
        skips = resync and bool(fresh) and fresh[0][0].sequence > last + 1
        if skips:
            start = (fresh[0][0].sequence - 1, fresh[0][0].prev_hash.hex())
        end = _follow(fresh, *start)
        if isinstance(end, BatchRefused):
            return BatchRefused("gap", expected_seq=last + 1) if end.reason == "gap" else end
        if skips:
            row = {"node": node, "epoch": epoch, "expected_seq": last + 1, "reported_seq": start[0] + 1}
            connection.execute(gaps.insert().values(**row, found_s=self._clock.wall_s()))
        reached, digest = end
        work = self._work(connection, source, fresh)
        self._commit(connection, node, work)
        row = {"node": node, "last_seq": reached, "last_hash": digest}
        if found:
            connection.execute(update(chains).where(mine).values(**row))
        else:
            connection.execute(chains.insert().values(source=source, epoch=epoch, **row))
        rejected = tuple((row["sequence"], row["reason"]) for row in work.rejections)
        return Taken(epoch, reached, digest, len(batch) - len(fresh), rejected)

    def _work(
        self, connection: Connection, source: str, fresh: list[tuple[SpoolEntry, dict[str, Any]]]
    ) -> _Work:
        work, now_s = _Work(), self._clock.wall_s()
        prices, known_orgs = _prices(connection), set(connection.execute(select(orgs.c.id)).scalars())
        partial = partial_policies(connection)
        asked = [event["data"].get("request_id") for _, event in fresh if event["type"] == FINISHED]
        asked = [each for each in asked if isinstance(each, str) and "\x00" not in each]
        seen = set(
            connection.execute(select(ledger.c.request_id).where(ledger.c.request_id.in_(asked))).scalars()
        )
        for entry, event in fresh:
            place = {
                "source": source,
                "epoch": entry.epoch,
                "sequence": entry.sequence,
                "received_s": now_s,
            }
            if _tombstone(event):
                work.rejections.append({**place, "reason": "damaged on the node", "event": event})
                continue
            if len(event["type"]) > 64 or "\x00" in event["type"]:
                work.rejections.append({**place, "reason": "the event type is invalid", "event": event})
                continue
            if event["type"] != FINISHED:
                work.events.append({**place, "type": event["type"], "data": event["data"]})
                continue
            row = ledger_row(event["data"], prices, known_orgs, partial, seen)
            if isinstance(row, str):
                work.rejections.append({**place, "reason": row, "event": event})
                continue
            seen.add(row["request_id"])
            work.ledger.append({**place, **row})
            work.timings.append(timing_row(place, event["data"]))
            work.debits[row["org"]] += row["debit_micro_usd"]
        return work

    def _commit(self, connection: Connection, node: str, work: _Work) -> None:
        for table, rows in (
            (ledger, work.ledger),
            (timings, work.timings),
            (events, work.events),
            (rejections, work.rejections),
        ):
            if rows:
                connection.execute(table.insert(), rows)
        for org, debit in sorted(work.debits.items()):  # one order for all batches prevents a deadlock
            if debit:
                balance = {"balance_micro_usd": orgs.c.balance_micro_usd - debit}
                connection.execute(update(orgs).where(orgs.c.id == org).values(**balance))
                left = leases.c.remaining_micro_usd - debit
                connection.execute(
                    update(leases)
                    .where((leases.c.node == node) & (leases.c.org == org))
                    .values(remaining_micro_usd=case((left > 0, left), else_=0))
                )

    def rows(self, *, endpoint: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """Returns the newest `limit` ledger rows (all when None), oldest first."""
        query = select(ledger).order_by(
            ledger.c.received_s.desc(), ledger.c.epoch.desc(), ledger.c.sequence.desc()
        )
        if endpoint is not None:
            query = query.where(ledger.c.endpoint == endpoint)
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query.limit(limit))][::-1]


def _follow(
    fresh: list[tuple[SpoolEntry, dict[str, Any]]], reached: int, digest: str
) -> tuple[int, str] | BatchRefused:
    """Returns the chain's end after the fresh events, or the refusal where the chain breaks."""
    for entry, event in fresh:
        if entry.sequence != reached + 1:
            return BatchRefused("gap")
        if entry.prev_hash.hex() != digest or not (entry.intact or _tombstone(event)):
            return BatchRefused(f"the chain is broken at {entry.sequence}")
        reached, digest = entry.sequence, entry.hash.hex()
    return reached, digest


def _tombstone(event: dict[str, Any]) -> bool:
    """True when the node reports the event as lost: the hash stands for missing bytes."""
    return bool(event["type"] == QUARANTINED and event["data"].get("replaces"))


def _prices(connection: Connection) -> dict[str, TokenPrice]:
    rows = connection.execute(select(endpoints)).all()
    return {
        row.id: TokenPrice(
            row.input_micro_usd_per_mtok, row.cached_input_micro_usd_per_mtok, row.output_micro_usd_per_mtok
        )
        for row in rows
    }

"""Ledger: turns usage into money: rows, debits and the sequence commit in one transaction, once per identity.

The ledger takes only the next entry of a chain, with an unbroken hash. No notion of HTTP.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, case, select, update

from pareta_agent.clock import Clock
from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.outcome import debited
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.contract.usage_event import FINISHED, NO_HASH, QUARANTINED, SpoolEntry, parse_wire
from pareta_agent.contract.usage_record import Outcome, PartialPolicy
from pareta_agent.plane.store.database import Database
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

_PRINTABLE = "^[ -~]*$"  # text that every database accepts: a refused event would block all later events
_Count = Annotated[int, Field(ge=0, le=2**53)]


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


class _Tokens(BaseModel):
    model_config = ConfigDict(strict=True)
    input: _Count
    input_cached: _Count
    output: _Count
    output_reasoning: _Count


class _Finished(BaseModel):
    """The ledger's part of `inference.finished` data."""

    request_id: str = Field(min_length=1, max_length=128, pattern=_PRINTABLE)
    org: str
    key_id: str = Field(max_length=64, pattern=_PRINTABLE)
    endpoint: str
    outcome: Outcome
    usage_source: Literal["engine_final", "chunk_count", "none", "suspect"]
    tokens: _Tokens


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
                work.rejections.append({**place, "reason": "the type is none", "event": event})
                continue
            if event["type"] != FINISHED:
                work.events.append({**place, "type": event["type"], "data": event["data"]})
                continue
            row = _ledger_row(event["data"], prices, known_orgs, partial, seen)
            if isinstance(row, str):
                work.rejections.append({**place, "reason": row, "event": event})
                continue
            seen.add(row["request_id"])
            work.ledger.append({**place, **row})
            work.timings.append(_timing(place, event["data"]))
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


def _ledger_row(
    data: dict[str, Any],
    prices: dict[str, TokenPrice],
    known_orgs: set[str],
    partial: dict[str, PartialPolicy],
    seen: set[str],
) -> dict[str, Any] | str:
    """Returns the ledger row, or the reason for a rejection."""
    try:
        usage = _Finished.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return f"invalid data: {'.'.join(map(str, first['loc']))}: {first['type']}"
    if usage.request_id in seen:
        return "this request is in the ledger already"
    if usage.org not in known_orgs:
        return "unknown org"
    if (price := prices.get(usage.endpoint)) is None:
        return "unknown endpoint"
    tokens = usage.tokens
    costs = debited(usage.outcome, usage.usage_source, partial.get(usage.org, "none"))
    cost = cost_micro_usd(price, tokens.input, tokens.input_cached, tokens.output)
    return {
        "request_id": usage.request_id,
        "org": usage.org,
        "key_id": usage.key_id,
        "endpoint": usage.endpoint,
        "outcome": usage.outcome.value,
        "usage_source": usage.usage_source,
        "input_tokens": tokens.input,
        "cached_tokens": tokens.input_cached,
        "output_tokens": tokens.output,
        "reasoning_tokens": tokens.output_reasoning,
        "debit_micro_usd": cost if costs else 0,
    }


def _timing(place: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Returns the request's times; a missing or invalid time does not reject the record."""
    begun_s, first_s, total_s = (data.get(name) for name in ("t_admit", "t_first_token", "t_end"))
    spent_s = float(total_s) if isinstance(total_s, int | float) else 0.0
    return {
        **{name: place[name] for name in ("source", "epoch", "sequence")},
        "endpoint": data["endpoint"],
        "first_token_s": float(first_s) if isinstance(first_s, int | float) else None,
        "total_s": spent_s,
        "finished_s": begun_s + spent_s if isinstance(begun_s, int | float) else place["received_s"],
    }


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

"""Metric queries: read an endpoint's metrics from the ledger, timings, cold starts and status changes. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import BigInteger, ColumnElement, Select, and_, case, cast, func, select

from pareta_agent.contract.usage_event import COLDSTART
from pareta_agent.plane.metrics.timeline import StatusChange
from pareta_agent.plane.metrics.window import Window
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.endpoint_status import LOST
from pareta_agent.plane.store.schema import events, ledger, standings, timings

MOST_SAMPLES = 20_000
_COMPLETED = "completed"
_SAME = and_(
    ledger.c.source == timings.c.source,
    ledger.c.epoch == timings.c.epoch,
    ledger.c.sequence == timings.c.sequence,
)
_SUMS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "debit_micro_usd")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Sums over requests of one outcome, or of one part of a window."""

    requests: int = 0
    completed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    debit_micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """Times of one completed request, in seconds after admission."""

    first_token_s: float | None
    total_s: float
    output_tokens: int


class ReportedColdStart(BaseModel):
    """One engine start, as reported by the node."""

    cause: str = ""
    outcome: str = ""
    total_s: float = 0.0
    phases: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class EndpointStart:
    at_s: float
    start_report: ReportedColdStart


@dataclass(frozen=True, slots=True)
class Subject:
    """Org, endpoint and window of a metric."""

    org: str
    endpoint: str
    window: Window


class MetricQueries:
    def __init__(self, database: Database) -> None:
        self._database = database

    def by_outcome(self, subject: Subject) -> dict[str, Aggregate]:
        query = select(ledger.c.outcome.label("part"), *_sum_columns()).where(_of(subject))
        return self._tallies(query.group_by(ledger.c.outcome))

    def by_source(self, subject: Subject) -> dict[str, int]:
        """Returns requests by the source of the token counts."""
        query = select(ledger.c.usage_source, func.count()).where(_of(subject))
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(ledger.c.usage_source)).all()
        return {source: int(requests) for source, requests in rows}

    def by_part(self, subject: Subject) -> dict[int, Aggregate]:
        """Returns sums by the start of each window part; a part without finished requests is left out."""
        window = subject.window
        share = (timings.c.finished_s - window.since_s) / window.width_s
        # SQLite may lack floor() and truncates a cast, PostgreSQL rounds one.
        number = cast(share, BigInteger) if self._database.sqlite else func.floor(share)
        found = self._tallies(
            select(number.label("part"), *_sum_columns()).where(_of(subject)).group_by("part")
        )
        return {window.since_s + int(at) * window.width_s: aggregate for at, aggregate in found.items()}

    def samples(self, subject: Subject) -> list[RequestTimes]:
        """Returns the newest completed requests."""
        query = (
            select(timings.c.first_token_s, timings.c.total_s, ledger.c.output_tokens)
            .where(_of(subject) & (ledger.c.outcome == _COMPLETED))
            .order_by(timings.c.finished_s.desc())
            .limit(MOST_SAMPLES)
        )
        with self._database.read() as connection:
            return [RequestTimes(*row) for row in connection.execute(query)]

    def newest(self, subject: Subject, limit: int) -> list[dict[str, Any]]:
        """Returns the newest requests of any outcome."""
        columns = (ledger.c.request_id, ledger.c.outcome, *(ledger.c[name] for name in _SUMS))
        query = (
            select(*columns, timings.c.first_token_s, timings.c.total_s, timings.c.finished_s)
            .where(_of(subject))
            .order_by(timings.c.finished_s.desc(), ledger.c.request_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def starts(self, subject: Subject) -> list[EndpointStart]:
        """Returns cold starts, oldest first by report time."""
        window = subject.window
        query = (
            select(events.c.received_s, events.c.data)
            .where(events.c.type == COLDSTART)
            .where(events.c.data["endpoint"].as_string() == subject.endpoint)
            .where((events.c.received_s >= window.since_s) & (events.c.received_s < window.until_s))
            .order_by(events.c.received_s)
        )
        with self._database.read() as connection:
            start_report = [_start(row.received_s, row.data) for row in connection.execute(query)]
        return [start for start in start_report if start is not None]

    def changes(self, endpoint: str, lost_s: float | None = None) -> list[StatusChange]:
        """Returns every status change, oldest first. `lost_s` is the time of the last report, when no node reports
        now.
        """
        query = select(standings).where(standings.c.endpoint == endpoint)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(standings.c.since_s, standings.c.id)).all()
        found = [StatusChange(row.status, row.since_s) for row in rows]
        if found and found[-1].status == "live" and lost_s is not None:
            found.append(StatusChange(LOST, max(lost_s, found[-1].since_s)))
        return found

    def _tallies(self, query: Select[Any]) -> dict[Any, Aggregate]:
        with self._database.read() as connection:
            rows = [row._mapping for row in connection.execute(query)]
        names = Aggregate.__dataclass_fields__
        return {row["part"]: Aggregate(**{name: int(row[name] or 0) for name in names}) for row in rows}


def _of(subject: Subject) -> ColumnElement[bool]:
    window = subject.window
    return and_(
        _SAME,
        ledger.c.org == subject.org,
        timings.c.endpoint == subject.endpoint,
        timings.c.finished_s >= window.since_s,
        timings.c.finished_s < window.until_s,
    )


def _sum_columns() -> list[ColumnElement[Any]]:
    completed = func.sum(case((ledger.c.outcome == _COMPLETED, 1), else_=0)).label("completed")
    return [func.count().label("requests"), completed, *(func.sum(ledger.c[n]).label(n) for n in _SUMS)]


def _start(at_s: float, data: dict[str, Any]) -> EndpointStart | None:
    """Returns None for an invalid start report: the ledger stores any event that a node sends."""
    try:
        return EndpointStart(at_s, ReportedColdStart.model_validate(data))
    except ValidationError:
        return None

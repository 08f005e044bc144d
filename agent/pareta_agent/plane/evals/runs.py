"""Eval run store: queued runs, resumed after a restart, with candidates and answers. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, select, update
from ulid import ULID

from pareta_agent.clock import Clock
from pareta_agent.plane.evals import tables
from pareta_agent.plane.evals.sets import EvalSet
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.schema import ledger, orgs

Kind = Literal["open", "frontier"]
Status = Literal["queued", "running", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class EvalRun:
    id: str
    org: str
    set_id: str
    task: str
    status: Status
    error: str | None
    created_s: float
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class EvalCandidate:
    """`place` is the candidate's number in the run; `ours`: the run deployed and removes the endpoint."""

    run_id: str
    place: int
    model: str
    kind: Kind
    done: bool
    error: str | None
    endpoint: str | None
    ours: bool
    key_id: str | None


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """One answered row. `score` is None when `error` explains a missing answer; `cost_micro_usd` as debited."""

    place: int
    score: float | None
    error: str | None
    latency_s: float
    request_id: str
    cost_micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class VendorCharge:
    """Usage of a vendor's model, debited by this plane because no node meters the call."""

    key_id: str
    input_tokens: int
    output_tokens: int
    micro_usd: int


class Runs:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def create(self, found: EvalSet, models: Sequence[tuple[str, Kind]]) -> EvalRun:
        run = EvalRun(
            f"er_{str(ULID()).lower()}",
            found.org,
            found.id,
            found.task,
            "queued",
            None,
            self._clock.wall_s(),
            None,
        )
        with self._database.write() as connection:
            facts = {name: getattr(run, name) for name in EvalRun.__slots__}
            connection.execute(tables.runs.insert().values(**facts))
            blank = {"run_id": run.id, "done": False, "ours": False}
            rows = [{**blank, "place": n, "model": m, "kind": kind} for n, (m, kind) in enumerate(models)]
            connection.execute(tables.candidates.insert(), rows)
        return run

    def find(self, org: str, run_id: str) -> EvalRun | None:
        mine = (tables.runs.c.id == run_id) & (tables.runs.c.org == org)
        with self._database.read() as connection:
            row = connection.execute(select(tables.runs).where(mine)).first()
        return None if row is None else EvalRun(*row)

    def next(self) -> EvalRun | None:
        """Returns the next run: a started run first, else the oldest queued run."""
        open_ = tables.runs.c.status.in_(("running", "queued"))
        query = (
            select(tables.runs).where(open_).order_by(tables.runs.c.status.desc(), tables.runs.c.created_s)
        )
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).first()
        return None if row is None else EvalRun(*row)

    def candidates(self, run_id: str) -> list[EvalCandidate]:
        query = select(tables.candidates).where(tables.candidates.c.run_id == run_id)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(tables.candidates.c.place))
            return [EvalCandidate(*row) for row in found]

    def answers(self, run_id: str, candidate: int) -> list[RowAnswer]:
        """Returns the answers by row; the cost comes from the ledger at this moment."""
        columns = tables.answers.c
        query = (
            select(
                columns.place,
                columns.score,
                columns.error,
                columns.latency_s,
                columns.request_id,
                func.coalesce(ledger.c.debit_micro_usd, 0),
            )
            .outerjoin(ledger, ledger.c.request_id == columns.request_id)
            .where((columns.run_id == run_id) & (columns.candidate == candidate))
            .order_by(columns.place)
        )
        with self._database.read() as connection:
            return [RowAnswer(*row) for row in connection.execute(query)]

    def unledgered(self, run_id: str, candidate: int) -> int:
        """Returns the number of answers without a ledger row."""
        columns = tables.answers.c
        query = (
            select(func.count())
            .select_from(tables.answers.outerjoin(ledger, ledger.c.request_id == columns.request_id))
            .where((columns.run_id == run_id) & (columns.candidate == candidate))
            .where(ledger.c.request_id.is_(None) & columns.error.is_(None))
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar() or 0)

    # for the runner

    def begin(self, run_id: str) -> None:
        self._set(tables.runs, tables.runs.c.id == run_id, status="running")

    def end(self, run_id: str, error: str | None = None) -> None:
        status = "completed" if error is None else "failed"
        now_s = self._clock.wall_s()
        self._set(tables.runs, tables.runs.c.id == run_id, status=status, error=error, ended_s=now_s)

    def update(self, candidate: EvalCandidate, **facts: Any) -> None:
        """Changes the stored candidate."""
        columns = tables.candidates.c
        here = (columns.run_id == candidate.run_id) & (columns.place == candidate.place)
        self._set(tables.candidates, here, **facts)

    def answered(
        self, candidate: EvalCandidate, answer: RowAnswer, charge: VendorCharge | None = None
    ) -> bool:
        """Stores an answer with the charge; changes nothing and returns False when the row has an answer."""
        key = {"run_id": candidate.run_id, "candidate": candidate.place, "place": answer.place}
        columns = tables.answers.c
        with self._database.write() as connection:
            here = [getattr(columns, name) == value for name, value in key.items()]
            if connection.execute(select(columns.place).where(*here)).first():
                return False
            facts = {name: getattr(answer, name) for name in ("score", "error", "latency_s", "request_id")}
            connection.execute(tables.answers.insert().values(**key, **facts))
            if charge is not None:
                _debit(connection, candidate, answer, charge, self._clock.wall_s())
            return True

    def endpoints_in_use(self) -> set[str]:
        """Returns the endpoints that unfinished runs deployed."""
        columns = tables.candidates.c
        query = (
            select(columns.endpoint)
            .join(tables.runs, tables.runs.c.id == columns.run_id)
            .where(columns.ours & ~columns.done & tables.runs.c.status.in_(("running", "queued")))
        )
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def _set(self, table: Any, where: Any, **facts: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(table).where(where).values(**facts))


def _debit(
    connection: Connection, candidate: EvalCandidate, answer: RowAnswer, charge: VendorCharge, now_s: float
) -> None:
    """Adds a ledger row of the plane's own, identified by the run's row: no row is debited twice."""
    org = connection.execute(
        select(tables.runs.c.org).where(tables.runs.c.id == candidate.run_id)
    ).scalar_one()
    connection.execute(
        ledger.insert().values(
            source=f"//pareta/plane/evals/{candidate.run_id}",
            epoch=candidate.place,
            sequence=answer.place,
            request_id=answer.request_id,
            org=org,
            key_id=charge.key_id,
            endpoint=candidate.model,
            outcome="completed",
            usage_source="engine_final",
            input_tokens=charge.input_tokens,
            cached_tokens=0,
            output_tokens=charge.output_tokens,
            reasoning_tokens=0,
            debit_micro_usd=charge.micro_usd,
            received_s=now_s,
        )
    )
    connection.execute(
        update(orgs)
        .where(orgs.c.id == org)
        .values(balance_micro_usd=orgs.c.balance_micro_usd - charge.micro_usd)
    )

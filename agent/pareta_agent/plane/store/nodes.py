"""Node registry: tokens, epochs (the fencing token), heartbeats, leases, and gaps in the nodes' reports."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from pareta_agent.clock import Clock
from pareta_agent.contract.wire import Heartbeat, HeartbeatAnswer, Observed, Register, Registered
from pareta_agent.plane.store import credit_store, endpoint_status
from pareta_agent.plane.store.api_keys import sha256_hex, withdrawn_since
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.revisions import revision_of
from pareta_agent.plane.store.schema import chains, gaps, nodes


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Intervals required of nodes; `suspect_s` and `lost_s` are ages of the last heartbeat."""

    heartbeat_s: float = 10.0
    lease_ttl_s: float = 40.0
    suspect_s: float = 25.0
    lost_s: float = 50.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The last report of a living node; `observed` is None before the first report of an epoch."""

    node: str
    front_url: str
    observed: Observed | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    id: str
    epoch: int
    state: str
    heartbeat_age_s: float | None


class Nodes:
    def __init__(self, database: Database, clock: Clock, settings: NodeSettings | None = None) -> None:
        self._database, self._clock = database, clock
        self._settings = settings or NodeSettings()

    def ensure(self, node: str, token: str) -> None:
        """Registers the node with that token, in place of an older token."""
        with self._database.write() as connection:
            known = update(nodes).where(nodes.c.id == node).values(token_sha256=sha256_hex(token))
            if not connection.execute(known).rowcount:
                blank: dict[str, Any] = {
                    "epoch": 0,
                    "boot_id": "",
                    "state": "lost",
                    "report": {},
                    "observed": {},
                }
                connection.execute(nodes.insert().values(id=node, token_sha256=sha256_hex(token), **blank))

    def mint(self, node: str) -> str:
        """Returns a new token for the node; only the hash is stored."""
        token = f"pareta_nt_{secrets.token_urlsafe(32)}"
        self.ensure(node, token)
        return token

    def of_token(self, token: str) -> str | None:
        with self._database.read() as connection:
            return connection.execute(
                select(nodes.c.id).where(nodes.c.token_sha256 == sha256_hex(token))
            ).scalar()

    def register(self, request: Register) -> Registered:
        """Starts a new epoch above every epoch of the plane and the node's spool; fences the older epochs."""
        now_s = self._clock.wall_s()
        with self._database.write() as connection:
            held = connection.execute(
                select(nodes.c.epoch).where(nodes.c.id == request.node).with_for_update()
            )
            before = held.scalar_one()
            epoch = max([before, *(mark.epoch for mark in request.epochs)]) + 1
            self._record_forgotten(connection, request, before)
            report = {
                "inventory": request.inventory,
                "agent_version": request.agent_version,
                "front_url": request.front_url,
            }
            row = {"epoch": epoch, "boot_id": request.boot_id, "state": "starting", "report": report}
            times = {"registered_s": now_s, "heartbeat_s": now_s}
            endpoint_status.record_loss(connection, request.node, now_s, self._settings.lost_s)
            known = update(nodes).where(nodes.c.id == request.node)
            connection.execute(known.values(**row, **times, observed={}))
            credit_store.drop(connection, request.node)
            source = f"//pareta/node/{request.node}/spool/{request.spool_id}"
            held_here = _last_sequences(connection, chains.c.source == source)
            newest = max((mark.epoch for mark in request.epochs), default=0)
            for vanished in (each for each in held_here if each > newest):
                self._record_gap(connection, request.node, vanished, held_here[vanished], 0)
            expected = {}
            for mark in request.epochs:
                last = held_here.get(mark.epoch, 0)
                self._record_gap(connection, request.node, mark.epoch, last, mark.last_seq)
                if last < mark.acked_seq:
                    expected[mark.epoch] = last + 1
            return Registered(
                server_time=now_s,
                epoch=epoch,
                heartbeat_s=self._settings.heartbeat_s,
                lease_ttl_s=self._settings.lease_ttl_s,
                keys_revision=revision_of(connection, "keys"),
                desired_revision=revision_of(connection, "desired"),
                expected=expected,
            )

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer | None:
        """Renews the lease; None when the node's epoch is not the current epoch (410)."""
        now_s = self._clock.wall_s()
        with self._database.write() as connection:
            row = connection.execute(select(nodes).where(nodes.c.id == beat.node).with_for_update()).one()
            if row.epoch != beat.epoch:
                return None
            if (
                row.heartbeat_s is not None
                and now_s - row.heartbeat_s >= self._settings.lost_s
                and row.observed
            ):
                endpoint_status.record_loss(connection, beat.node, now_s, self._settings.lost_s)
                endpoint_status.record_changes(connection, Observed.model_validate(row.observed), now_s)
            report = {**row.report, **beat.model_dump(exclude_none=True)}
            values = {"heartbeat_s": now_s, "state": beat.state, "report": report}
            connection.execute(update(nodes).where(nodes.c.id == beat.node).values(**values))
            mine = (chains.c.node == beat.node) & (chains.c.epoch == beat.epoch)
            last = _last_sequences(connection, mine).get(beat.epoch, 0)
            self._record_gap(connection, beat.node, beat.epoch, last, beat.spool.last_seq)
            keys = revision_of(connection, "keys")
            return HeartbeatAnswer(
                server_time=now_s,
                heartbeat_s=self._settings.heartbeat_s,
                lease_ttl_s=self._settings.lease_ttl_s,
                desired_revision=revision_of(connection, "desired"),
                keys_revision=keys,
                keys_withdrawn=withdrawn_since(connection, beat.revisions.keys, keys),
                credit_leases=credit_store.renew(connection, beat.node, now_s),
                expected_seq=last + 1 if last < beat.spool.acked_seq else None,
            )

    def observed(self, node: str, observed: Observed) -> bool:
        """Stores the node's observed endpoints; False for an epoch that is not the current epoch."""
        mine = (nodes.c.id == node) & (nodes.c.epoch == observed.epoch)
        with self._database.write() as connection:
            values = {"observed": observed.model_dump()}
            current = bool(connection.execute(update(nodes).where(mine).values(**values)).rowcount)
            if current:
                endpoint_status.record_changes(connection, observed, self._clock.wall_s())
            return current

    def reports(self) -> list[NodeReport]:
        """Returns the last report of each living node."""
        now_s = self._clock.wall_s()
        with self._database.read() as connection:
            found = connection.execute(select(nodes).order_by(nodes.c.id)).all()
        return [
            NodeReport(
                row.id,
                str(row.report.get("front_url") or ""),
                Observed.model_validate(row.observed) if row.observed else None,
            )
            for row in found
            if self._row(row.id, row.epoch, row.state, row.heartbeat_s, now_s).state != "lost"
        ]

    def lost_since_s(self) -> float | None:
        """Returns the time of the last heartbeat of any node; None while a node lives, or when none ever reported."""
        with self._database.read() as connection:
            heard_s: float | None = connection.execute(select(func.max(nodes.c.heartbeat_s))).scalar()
        lost = heard_s is None or self._clock.wall_s() - heard_s >= self._settings.lost_s
        return heard_s if lost else None

    def gaps(self, node: str) -> list[tuple[int, int, int]]:
        """Returns (epoch, last sequence here, last sequence reported) for each recorded loss."""
        query = select(gaps).where(gaps.c.node == node).order_by(gaps.c.id)
        with self._database.read() as connection:
            return [(row.epoch, row.expected_seq, row.reported_seq) for row in connection.execute(query)]

    def current(self, node: str, epoch: int) -> bool:
        with self._database.read() as connection:
            return connection.execute(select(nodes.c.epoch).where(nodes.c.id == node)).scalar() == epoch

    def rows(self) -> list[NodeRow]:
        """Returns every node with a state.

        The state is the reported state, except `suspect` and `lost` after an expired lease, and `unready` for a ready
        node that cannot record usage.
        """
        now_s = self._clock.wall_s()
        with self._database.read() as connection:
            found = connection.execute(select(nodes).order_by(nodes.c.id)).all()
        return [
            self._row(row.id, row.epoch, _reported_state(row.state, row.report), row.heartbeat_s, now_s)
            for row in found
        ]

    def _row(self, node: str, epoch: int, state: str, heartbeat_s: float | None, now_s: float) -> NodeRow:
        age_s = None if heartbeat_s is None else now_s - heartbeat_s
        if age_s is None or age_s >= self._settings.lost_s:
            return NodeRow(node, epoch, "lost", age_s)
        return NodeRow(node, epoch, "suspect" if age_s >= self._settings.suspect_s else state, age_s)

    def _record_forgotten(self, connection: Connection, request: Register, epoch: int) -> None:
        """Records a loss when the last heartbeat of that epoch reported a sequence that plane and spool both lack."""
        said = connection.execute(select(nodes.c.report).where(nodes.c.id == request.node)).scalar_one()
        last_reported = said.get("spool", {}).get("last_seq", 0)
        mine = (chains.c.node == request.node) & (chains.c.epoch == epoch)
        kept = max((mark.last_seq for mark in request.epochs if mark.epoch == epoch), default=0)
        if _last_sequences(connection, mine).get(epoch, 0) < last_reported:
            self._record_gap(connection, request.node, epoch, last_reported, kept)

    def _record_gap(
        self, connection: Connection, node: str, epoch: int, last: int, reported_seq: int
    ) -> None:
        """Records once that a node lost records: the node reports less than the plane received (a rolled-back disk)."""
        known = (gaps.c.node == node) & (gaps.c.epoch == epoch) & (gaps.c.expected_seq == last)
        if reported_seq < last and not connection.execute(select(gaps.c.id).where(known)).first():
            row = {"node": node, "epoch": epoch, "expected_seq": last, "reported_seq": reported_seq}
            connection.execute(gaps.insert().values(**row, found_s=self._clock.wall_s()))


def _last_sequences(connection: Connection, where: ColumnElement[bool]) -> dict[int, int]:
    rows = connection.execute(select(chains.c.epoch, chains.c.last_seq).where(where))
    return {row.epoch: row.last_seq for row in rows}


def _reported_state(state: str, report: dict[str, Any]) -> str:
    return "unready" if state == "ready" and not report.get("metering_ok", True) else state

"""Endpoint status: derives an endpoint's status from the desired state and the nodes' reports; records changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from pareta_agent.contract.fleet_view import EndpointStatus
from pareta_agent.contract.wire import Observed, ObservedEndpoint, Progress
from pareta_agent.plane.store.schema import nodes, standings

LOST = "lost"


@dataclass(frozen=True, slots=True)
class Standing:
    """`reason` is one sentence for the owner, or None. `callable`: a call is answered, if necessary after a wake."""

    status: EndpointStatus
    reason: str | None = None
    progress: Progress | None = None
    callable: bool = False


def standing_of(endpoint: str, state: str, revision: int, reports: Iterable[Observed | None]) -> Standing:
    """Returns the endpoint's status by the living nodes' reports.

    A node's report counts only from `revision` on: the revision of the desired state that last changed the endpoint.
    """
    if state != "running":
        return Standing("stopped")
    reported = list(reports)
    if not reported:
        return Standing("cold", "no node is available to run the endpoint")
    seen = [(found, report) for report in reported if report and (found := _of(endpoint, report))]
    if not seen:
        return Standing("deploying")
    found, report = max(seen, key=lambda pair: pair[0].status == "live")
    if report.desired_revision < revision or found.status == "stopped":
        return Standing("deploying", progress=found.progress)
    return Standing(found.status, found.reason, found.progress, found.status in ("live", "cold"))


def is_stopped(endpoint: str, reports: Iterable[Observed | None]) -> bool:
    """True when every living node reports that the stopped endpoint is no longer served."""
    return all(report is not None and not _serves(endpoint, report) for report in reports)


def record_changes(connection: Connection, observed: Observed, now_s: float) -> None:
    """Records each status change; part of the caller's transaction."""
    last = _last(connection)
    for each in observed.endpoints:
        if last.get(each.id) != each.status:
            row = {"endpoint": each.id, "status": each.status, "since_s": now_s}
            connection.execute(standings.insert().values(**row))


def record_loss(connection: Connection, node: str, now_s: float, lost_s: float) -> None:
    """Records that the node's live endpoints went down with the last heartbeat: the node restarts or returns."""
    row = connection.execute(select(nodes).where(nodes.c.id == node)).first()
    if row is None or not row.observed:
        return
    heard_s = row.heartbeat_s or now_s
    since_s = now_s if now_s - heard_s < lost_s else heard_s
    last = _last(connection)
    for each in Observed.model_validate(row.observed).endpoints:
        if last.get(each.id) == "live":
            connection.execute(standings.insert().values(endpoint=each.id, status=LOST, since_s=since_s))


def _serves(endpoint: str, report: Observed) -> bool:
    found = _of(endpoint, report)
    return found is not None and found.status not in ("stopped", "failed")


def _of(endpoint: str, report: Observed) -> ObservedEndpoint | None:
    return next((each for each in report.endpoints if each.id == endpoint), None)


def _last(connection: Connection) -> dict[str, str]:
    newest = select(func.max(standings.c.id)).group_by(standings.c.endpoint)
    rows = connection.execute(
        select(standings.c.endpoint, standings.c.status).where(standings.c.id.in_(newest))
    )
    return {row.endpoint: row.status for row in rows}

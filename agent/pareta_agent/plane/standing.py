"""How an endpoint stands: what is wanted of it beside what the nodes see of it, and how that went over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from pareta_agent.control.wire import Observed, ObservedEndpoint, Progress
from pareta_agent.engine.view import EndpointStatus
from pareta_agent.plane.schema import nodes, standings

LOST = "lost"


@dataclass(frozen=True, slots=True)
class Standing:
    """`reason` is one sentence for the owner, where there is something to say. `callable`: a call is answered, if
    need be after the endpoint woke."""

    status: EndpointStatus
    reason: str | None = None
    progress: Progress | None = None
    callable: bool = False


def stand(endpoint: str, state: str, revision: int, reports: Iterable[Observed | None]) -> Standing:
    """The endpoint's status by what the living nodes report. `revision` is the desired state's that changed it last:
    a node which has not carried that out yet says nothing about it."""
    if state != "running":
        return Standing("stopped")
    reported = list(reports)
    if not reported:
        return Standing("cold", "no node is there to run it")
    seen = [(found, report) for report in reported if report and (found := _of(endpoint, report))]
    if not seen:
        return Standing("deploying")
    found, report = max(seen, key=lambda pair: pair[0].status == "live")
    if report.desired_revision < revision or found.status == "stopped":
        return Standing("deploying", progress=found.progress)
    return Standing(found.status, found.reason, found.progress, found.status in ("live", "cold"))


def heard(endpoint: str, reports: Iterable[Observed | None]) -> bool:
    """Whether every living node says that it no longer serves what was stopped."""
    return all(report is not None and not _serves(endpoint, report) for report in reports)


def note(connection: Connection, observed: Observed, now_s: float) -> None:
    """Keeps each change of a status; part of the caller's transaction."""
    last = _last(connection)
    for each in observed.endpoints:
        if last.get(each.id) != each.status:
            row = {"endpoint": each.id, "status": each.status, "since_s": now_s}
            connection.execute(standings.insert().values(**row))


def interrupted(connection: Connection, node: str, now_s: float, lost_s: float) -> None:
    """A node begins anew, or is heard of again: what it served is down since it was last heard of."""
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

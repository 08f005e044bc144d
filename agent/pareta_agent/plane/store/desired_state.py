"""Desired state: the endpoints that the settings and the owners require of the nodes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select, update

from pareta_agent.clock import Clock
from pareta_agent.contract.wire import Desired, DesiredEndpoint, WirePrice
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.revisions import bump, revision_of
from pareta_agent.plane.store.schema import deployments, endpoints, rests


class DesiredState:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def replace(self, wanted: list[DesiredEndpoint]) -> None:
        """Replaces the endpoints of the settings: every other running endpoint is stopped. A repeat changes nothing.

        An endpoint that the owner deployed, started, stopped or deleted stays as the owner left the endpoint.
        """
        with self._database.write() as connection:
            before = _endpoint_rows(connection)
            owned = set(connection.execute(select(deployments.c.endpoint)).scalars())
            for each in (each for each in wanted if each.id not in owned):
                row = {
                    "org": each.org,
                    "task": each.task,
                    "alias": each.alias,
                    "state": each.state,
                    **each.price.model_dump(),
                }
                if each.id in before:
                    connection.execute(update(endpoints).where(endpoints.c.id == each.id).values(**row))
                else:
                    created = {"id": each.id, "created_s": int(self._clock.wall_s())}
                    connection.execute(endpoints.insert().values(**row, **created))
                write_idle_timeout(connection, each.id, each.idle_sleep_s)
            kept = [*owned, *(each.id for each in wanted)]
            connection.execute(update(endpoints).where(endpoints.c.id.not_in(kept)).values(state="stopped"))
            if _endpoint_rows(connection) != before:
                bump(connection, "desired")

    def read(self) -> Desired:
        with self._database.read() as connection:
            revision = revision_of(connection, "desired")
            rows = _endpoint_rows(connection)
            made = {row.endpoint: row for row in connection.execute(select(deployments))}
        return Desired(
            server_time=self._clock.wall_s(),
            revision=revision,
            endpoints=[
                DesiredEndpoint(
                    **{name: row[name] for name in ("id", "org", "task", "alias", "state", "created_s")},
                    price=WirePrice(**{name: row[name] for name in WirePrice.model_fields}),
                    attempt=made[row["id"]].revision if row["id"] in made else 0,
                    idle_sleep_s=row["idle_sleep_s"],
                    listed=row["id"] not in made or made[row["id"]].purpose == "serve",
                )
                for row in rows.values()
                if row["state"] != "deleted"
            ],
        )


def write_idle_timeout(connection: Connection, endpoint: str, idle_sleep_s: float | None) -> None:
    """Sets the endpoint's idle timeout; None removes the timeout."""
    connection.execute(delete(rests).where(rests.c.endpoint == endpoint))
    if idle_sleep_s is not None:
        connection.execute(rests.insert().values(endpoint=endpoint, idle_sleep_s=idle_sleep_s))


def _endpoint_rows(connection: Connection) -> dict[str, dict[str, Any]]:
    query = select(endpoints, rests.c.idle_sleep_s).outerjoin(rests, rests.c.endpoint == endpoints.c.id)
    return {row.id: dict(row._mapping) for row in connection.execute(query.order_by(endpoints.c.id))}

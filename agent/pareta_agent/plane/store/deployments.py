"""Deployments: an org's commands on endpoints: deploy, start, stop, delete, let sleep.

Each command is one transaction that writes the desired state; nodes follow. The caller checks feasibility beforehand.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, func, select, update

from pareta_agent.clock import Clock
from pareta_agent.contract.wire import WirePrice
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.desired_state import write_idle_timeout
from pareta_agent.plane.store.revisions import bump, revision_of
from pareta_agent.plane.store.schema import deployments, endpoints, rests

Purpose = Literal["serve", "eval"]
State = Literal["running", "stopped", "deleted"]
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Deployed:
    """An endpoint as the owner commands. `revision` is the revision of the desired state that last changed the
    endpoint.
    """

    id: str
    name: str
    org: str
    task: str
    alias: str
    state: State
    created_s: int
    revision: int
    price: WirePrice
    idle_sleep_s: float | None


@dataclass(frozen=True, slots=True)
class DeployOrder:
    """A new endpoint's request; `base` is the stem of the id when no name is given."""

    org: str
    task: str
    alias: str
    base: str
    price: WirePrice
    name: str | None = None
    purpose: Purpose = "serve"
    idle_sleep_s: float | None = None


class Deployments:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def create(self, order: DeployOrder) -> Deployed | None:
        """Creates a desired endpoint; returns None when the org has an endpoint of that name."""
        with self._database.write() as connection:
            if order.name is not None and _named(connection, order.org, order.name):
                return None
            endpoint = _free_id(connection, order.name or order.base)
            revision = _moved(connection)
            row = {"id": endpoint, "org": order.org, "task": order.task, "alias": order.alias}
            created_s = int(self._clock.wall_s())
            connection.execute(
                endpoints.insert().values(
                    **row, state="running", created_s=created_s, **order.price.model_dump()
                )
            )
            connection.execute(
                deployments.insert().values(
                    endpoint=endpoint,
                    org=order.org,
                    name=order.name or endpoint,
                    purpose=order.purpose,
                    revision=revision,
                )
            )
            write_idle_timeout(connection, endpoint, order.idle_sleep_s)
            return _one(connection, order.org, endpoint)

    def set_state(self, org: str, endpoint: str, state: State) -> Deployed | None:
        """Sets the endpoint's desired state; None when the org has no such endpoint. The same state again is a new
        attempt.
        """
        with self._database.write() as connection:
            if (found := _one(connection, org, endpoint)) is None:
                return None
            connection.execute(update(endpoints).where(endpoints.c.id == endpoint).values(state=state))
            name = None if state == "deleted" else found.name
            _own(connection, found, name=name, revision=_moved(connection))
            return found if state == "deleted" else _one(connection, org, endpoint)

    def set_idle_timeout(self, org: str, endpoint: str, idle_sleep_s: float | None) -> Deployed | None:
        """Sets the idle timeout after which the endpoint may sleep (0: never; None: not set).

        Returns None when the org has no such endpoint. The change is no attempt: running engines continue.
        """
        with self._database.write() as connection:
            bump(connection, "desired")  # first: from here on no other transaction writes the rows read here
            if (found := _one(connection, org, endpoint)) is None:
                return None
            _own(connection, found, name=found.name, revision=found.revision)
            write_idle_timeout(connection, endpoint, idle_sleep_s)
            return _one(connection, org, endpoint)

    def find(self, org: str, endpoint: str) -> Deployed | None:
        """Returns the org's endpoint of that id, unless deleted."""
        with self._database.read() as connection:
            return _one(connection, org, endpoint)

    def named(self, org: str, name: str) -> bool:
        """True when an endpoint of the org has that name or id."""
        with self._database.read() as connection:
            return _named(connection, org, name)

    def of(self, org: str, purpose: Purpose = "serve") -> list[Deployed]:
        """Returns the org's endpoints, oldest first."""
        with self._database.read() as connection:
            return [_deployed(row) for row in connection.execute(_query(org, purpose))]


def _query(org: str, purpose: Purpose | None = None) -> Select[Any]:
    kind = func.coalesce(deployments.c.purpose, "serve")
    revision = func.coalesce(deployments.c.revision, 0).label("revision")
    query = (
        select(endpoints, deployments.c.name, revision, rests.c.idle_sleep_s)
        .outerjoin(deployments, deployments.c.endpoint == endpoints.c.id)
        .outerjoin(rests, rests.c.endpoint == endpoints.c.id)
        .where((endpoints.c.org == org) & (endpoints.c.state != "deleted"))
        .order_by(endpoints.c.created_s, endpoints.c.id)
    )
    return query if purpose is None else query.where(kind == purpose)


def _one(connection: Connection, org: str, endpoint: str) -> Deployed | None:
    row = connection.execute(_query(org).where(endpoints.c.id == endpoint)).first()
    return None if row is None else _deployed(row)


def _deployed(row: Any) -> Deployed:
    price = WirePrice(**{name: row._mapping[name] for name in WirePrice.model_fields})
    facts = (row.org, row.task, row.alias, row.state, row.created_s, row.revision)
    return Deployed(row.id, row.name or row.id, *facts, price, row.idle_sleep_s)


def _own(connection: Connection, found: Deployed, **row: Any) -> None:
    """Gives the endpoint to the owner: from now on the node's settings do not change the endpoint."""
    known = update(deployments).where(deployments.c.endpoint == found.id)
    if not connection.execute(known.values(**row)).rowcount:
        fresh = {"endpoint": found.id, "org": found.org, "purpose": "serve"}
        connection.execute(deployments.insert().values(**fresh, **row))


def _named(connection: Connection, org: str, name: str) -> bool:
    mine = func.coalesce(deployments.c.name, endpoints.c.id)
    return (
        connection.execute(_query(org).where((mine == name) | (endpoints.c.id == name))).first() is not None
    )


def _free_id(connection: Connection, wanted: str) -> str:
    """Returns `wanted` as an id, with a random suffix when any org ever had that id."""
    slug = "".join(each if each.isascii() and each.isalnum() else "_" for each in wanted.lower()).strip("_")
    base = slug if slug.startswith("ep_") else f"ep_{slug}"
    taken = set(connection.execute(select(endpoints.c.id).where(endpoints.c.id.like(f"{base}%"))).scalars())
    found = base
    while found in taken:
        found = f"{base}_{''.join(secrets.choice(_ALPHABET) for _ in range(4))}"
    return found


def _moved(connection: Connection) -> int:
    """Returns the next revision of the desired state."""
    bump(connection, "desired")
    return revision_of(connection, "desired")

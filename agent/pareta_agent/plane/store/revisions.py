"""Revisions: numbers by which nodes notice a change of the key set or of the desired state."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from pareta_agent.plane.store.schema import revisions


def bump(connection: Connection, name: str) -> None:
    """Increments a revision; part of the caller's transaction."""
    if not connection.execute(
        update(revisions).where(revisions.c.name == name).values(value=revisions.c.value + 1)
    ).rowcount:
        connection.execute(revisions.insert().values(name=name, value=1))


def revision_of(connection: Connection, name: str) -> int:
    return connection.execute(select(revisions.c.value).where(revisions.c.name == name)).scalar() or 0

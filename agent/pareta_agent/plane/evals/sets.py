"""Eval set store: an org's rows, and the documents of rows. Each method is one transaction."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select, update
from ulid import ULID

from pareta_agent.clock import Clock
from pareta_agent.plane.evals import tables
from pareta_agent.plane.evals.rows import Blob
from pareta_agent.plane.store.api_keys import sha256_hex
from pareta_agent.plane.store.database import Database

UPLOAD_TTL_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class EvalSet:
    id: str
    org: str
    task: str
    name: str
    scorer: str
    row_count: int
    created_s: int


@dataclass(frozen=True, slots=True)
class DocumentPosition:
    """Set, row and field of a document."""

    set_id: str
    row: int
    field: str
    mime: str


class Sets:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def create(self, org: str, task: str, name: str, scorer: str, rows: list[dict[str, Any]]) -> EvalSet:
        made = EvalSet(
            f"es_{str(ULID()).lower()}", org, task, name, scorer, len(rows), int(self._clock.wall_s())
        )
        facts = {name: getattr(made, name) for name in EvalSet.__slots__}
        with self._database.write() as connection:
            connection.execute(tables.sets.insert().values(**facts))
            connection.execute(
                tables.rows.insert(),
                [{"set_id": made.id, "place": place, "body": body} for place, body in enumerate(rows)],
            )
        return made

    def of(self, org: str) -> list[EvalSet]:
        """Returns the sets, newest first."""
        query = select(tables.sets).where(tables.sets.c.org == org)
        with self._database.read() as connection:
            found = connection.execute(
                query.order_by(tables.sets.c.created_s.desc(), tables.sets.c.id.desc())
            )
            return [EvalSet(*row) for row in found]

    def find(self, org: str, set_id: str) -> EvalSet | None:
        with self._database.read() as connection:
            return _find(connection, org, set_id)

    def delete(self, org: str, set_id: str) -> bool:
        """Removes the set with rows and documents; the results of runs stay."""
        with self._database.write() as connection:
            if _find(connection, org, set_id) is None:
                return False
            connection.execute(delete(tables.sets).where(tables.sets.c.id == set_id))
            for table in (tables.rows, tables.blobs, tables.uploads):
                connection.execute(delete(table).where(table.c.set_id == set_id))
            return True

    def rows(self, set_id: str) -> list[dict[str, Any]]:
        """Returns the rows in order; empty when the set is gone."""
        query = select(tables.rows.c.body).where(tables.rows.c.set_id == set_id)
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(tables.rows.c.place)).scalars())

    def blobs(self, set_id: str, row: int) -> list[Blob]:
        """Returns the documents of a row, by field."""
        query = select(tables.blobs).where((tables.blobs.c.set_id == set_id) & (tables.blobs.c.place == row))
        with self._database.read() as connection:
            found = connection.execute(query.order_by(tables.blobs.c.field))
            return [Blob(each.field, each.mime, each.content) for each in found]

    # documents

    def attach(self, place: DocumentPosition, content: bytes) -> None:
        """Stores a document at the position, in place of an earlier document."""
        with self._database.write() as connection:
            _attach(connection, place, content)

    def promise(self, place: DocumentPosition, size_bytes: int) -> str:
        """Returns a secret that permits one upload of a document, for a limited time."""
        token = secrets.token_urlsafe(32)
        facts = {"set_id": place.set_id, "place": place.row, "field": place.field, "mime": place.mime}
        now_s = self._clock.wall_s()
        with self._database.write() as connection:
            connection.execute(delete(tables.uploads).where(tables.uploads.c.expires_s < now_s))
            connection.execute(
                tables.uploads.insert().values(
                    token_sha256=sha256_hex(token),
                    size_bytes=size_bytes,
                    expires_s=now_s + UPLOAD_TTL_S,
                    content=None,
                    **facts,
                )
            )
        return token

    def promised_bytes(self, token: str) -> int | None:
        """Returns the announced size of the document under that secret; None when none is expected."""
        with self._database.read() as connection:
            row = connection.execute(select(tables.uploads).where(self._awaited(sha256_hex(token)))).first()
        return None if row is None else int(row.size_bytes)

    def keep_upload(self, token: str, content: bytes) -> bool:
        with self._database.write() as connection:
            here = update(tables.uploads).where(self._awaited(sha256_hex(token)))
            return bool(connection.execute(here.values(content=content)).rowcount)

    def complete(self, place: DocumentPosition, token_sha256: str) -> bool:
        """Attaches the uploaded document; False when nothing was uploaded."""
        with self._database.write() as connection:
            here = tables.uploads.c.token_sha256 == token_sha256
            row: Row[Any] | None = connection.execute(select(tables.uploads).where(here)).first()
            if row is None or row.content is None:
                return False
            if (row.set_id, row.place, row.field) != (place.set_id, place.row, place.field):
                return False
            connection.execute(delete(tables.uploads).where(here))
            _attach(connection, place, row.content)
            return True

    def _awaited(self, token_sha256: str) -> Any:
        columns = tables.uploads.c
        fresh = columns.expires_s >= self._clock.wall_s()
        return (columns.token_sha256 == token_sha256) & columns.content.is_(None) & fresh


def _find(connection: Connection, org: str, set_id: str) -> EvalSet | None:
    mine = (tables.sets.c.id == set_id) & (tables.sets.c.org == org)
    row = connection.execute(select(tables.sets).where(mine)).first()
    return None if row is None else EvalSet(*row)


def _attach(connection: Connection, place: DocumentPosition, content: bytes) -> None:
    columns = tables.blobs.c
    here = (columns.set_id == place.set_id) & (columns.place == place.row) & (columns.field == place.field)
    connection.execute(delete(tables.blobs).where(here))
    facts = {"set_id": place.set_id, "place": place.row, "field": place.field, "mime": place.mime}
    connection.execute(tables.blobs.insert().values(content=content, **facts))

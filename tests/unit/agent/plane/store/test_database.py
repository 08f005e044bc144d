"""Plane database: valid URLs, and the errors of an unusable database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from pareta_agent.errors import ConfigError, PlaneError
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.schema import orgs


@pytest.mark.parametrize("url", ["plane", "nosuch://host/plane"])
def test_what_is_no_database_is_refused(url: str) -> None:
    """A path or an unknown kind is refused, with an example of a valid URL."""
    with pytest.raises(ConfigError) as refused:
        Database(url)
    assert refused.value.code == "database_url_invalid"


def test_every_commit_of_the_ledger_is_on_disk(tmp_path: Path) -> None:
    """SQLite syncs at each commit (2 is FULL) and takes the write lock before reading."""
    database = Database(f"sqlite:///{tmp_path / 'plane.db'}")
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        other = sqlite3.connect(tmp_path / "plane.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    database.close()


def test_who_reads_and_who_writes_do_not_wait_for_each_other(database: Database) -> None:
    """A long read of the ledger blocks no lease and no heartbeat, and reads committed rows only."""
    row = {"id": "org", "balance_micro_usd": 1}
    with database.read() as reading, database.write() as writing:
        assert reading.execute(select(orgs)).all() == []
        writing.execute(orgs.insert().values(**row))
        with database.read() as another:
            assert another.execute(select(orgs)).all() == []
    with database.read() as reading:
        assert len(reading.execute(select(orgs)).all()) == 1


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    """The error names the server, without the password."""
    database = Database("postgres://pareta:secret@127.0.0.1:1/plane?connect_timeout=2")
    with pytest.raises(PlaneError) as refused:
        database.create()
    database.close()
    assert refused.value.code == "database_unreachable"
    assert "127.0.0.1:1" in refused.value.message
    assert "secret" not in refused.value.message

"""Plane database: opens the database, makes tables, runs transactions, and translates database errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from pareta_agent.errors import ConfigError, PlaneError
from pareta_agent.plane.store.schema import metadata

_WAL_IS_SAFE_FROM = (3, 51, 3)  # in earlier versions, two connections could corrupt a WAL during a reset


class Database:
    """A database by URL. A write transaction holds the write lock from the first statement on."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that names no database, or for a driver that is not installed."""
        try:
            self.engine = create_engine(_with_driver(url), pool_pre_ping=not url.startswith("sqlite"))
        except (ArgumentError, NoSuchModuleError):
            raise ConfigError(
                "database_url_invalid",
                "plane.database is not the URL of a database",
                "use a URL like postgresql://user@host/pareta or sqlite:////var/lib/pareta/plane.db",
            ) from None
        except ModuleNotFoundError as error:
            raise ConfigError(
                "database_driver_missing",
                f"the database's driver {error.name} is not installed",
                "pip install 'pareta-agent[postgresql]'",
            ) from None
        self.sqlite = self.engine.dialect.name == "sqlite"
        if self.sqlite:
            _serialise(self.engine)

    def create(self) -> None:
        """Makes missing tables; raises PlaneError when the database is unreachable or damaged."""
        try:
            metadata.create_all(self.engine)
        except OperationalError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            raise PlaneError(
                "database_unreachable",
                f"the database {where} cannot be used: {str(error.orig).strip()}",
                "start the database; check that plane.database names the database and that the user may create tables",
            ) from error
        except DatabaseError as error:
            raise self._damaged(error) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Runs a transaction: committed at the end, rolled back by an exception."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Closes at the end; raises PlaneError for an error of the database."""
        try:
            yield
        except DatabaseError as error:
            raise self._damaged(error) from error
        finally:
            self.close()

    def close(self) -> None:
        self.engine.dispose()

    def _damaged(self, error: DatabaseError) -> PlaneError:
        where = self.engine.url.render_as_string(hide_password=True)
        return PlaneError(
            "database_damaged",
            f"the database {where} cannot be read: {str(error.orig).strip()}",
            "restore a backup, or move the file away: a new database has no keys, balances or ledger",
        )


def _with_driver(url: str) -> str:
    """Selects psycopg for PostgreSQL, whatever the URL's short form would select."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgres", "postgresql") else url


def _serialise(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own
        journal = "WAL" if sqlite3.sqlite_version_info >= _WAL_IS_SAFE_FROM else "TRUNCATE"
        for pragma in (
            f"journal_mode={journal}",
            "synchronous=FULL",
            "busy_timeout=10000",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A read takes no write lock.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

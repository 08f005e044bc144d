"""The plane's database: opens it, makes its tables, runs transactions, and translates what it refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from pareta_agent.errors import ConfigError, PlaneError
from pareta_agent.plane.schema import metadata

_WAL_IS_SAFE_FROM = (3, 51, 3)  # before, two connections could corrupt a WAL that is being reset


class Database:
    """One database by URL. A write transaction holds the write lock from its first statement."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that names no database or one whose driver is not installed."""
        try:
            self.engine = create_engine(_with_driver(url), pool_pre_ping=not url.startswith("sqlite"))
        except (ArgumentError, NoSuchModuleError):
            raise ConfigError(
                "database_url_invalid",
                "plane.database is not the URL of a database",
                "write it like postgresql://user@host/pareta or sqlite:////var/lib/pareta/plane.db",
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
        """Makes what is missing; raises PlaneError when the database cannot be reached, or is damaged."""
        try:
            metadata.create_all(self.engine)
        except OperationalError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            raise PlaneError(
                "database_unreachable",
                f"the database {where} cannot be used: {str(error.orig).strip()}",
                "start it, and check that plane.database names it and its user may create tables",
            ) from error
        except DatabaseError as error:
            raise self._damaged(error) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by an exception."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Closes at the end; raises PlaneError for what the database refused meanwhile."""
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
            "restore a backup; without one put it aside: a new one has no keys, balances or ledger",
        )


def _with_driver(url: str) -> str:
    """PostgreSQL is spoken to by psycopg, whatever the URL's short form would choose."""
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
        # A read locks nobody out.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

"""Databases of the plane: each kind on which a plane runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pareta_agent.plane.store.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url)
    found.create()
    yield found
    found.close()

"""Which database a plane runs on, and what it says when it cannot."""

from __future__ import annotations

import pytest

from pareta_agent.errors import ConfigError, PlaneError
from pareta_agent.plane.schema import Database


@pytest.mark.parametrize("url", ["plane", "nosuch://host/plane"])
def test_what_is_no_database_is_refused(url: str) -> None:
    """A path or an unknown kind, with an example of what is wanted."""
    with pytest.raises(ConfigError) as refused:
        Database(url)
    assert refused.value.code == "database_url_invalid"


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    """The operator reads which one, the log does not learn the secret."""
    database = Database("postgres://pareta:secret@127.0.0.1:1/plane?connect_timeout=2")
    with pytest.raises(PlaneError) as refused:
        database.create()
    database.close()
    assert refused.value.code == "database_unreachable"
    assert "127.0.0.1:1" in refused.value.message
    assert "secret" not in refused.value.message

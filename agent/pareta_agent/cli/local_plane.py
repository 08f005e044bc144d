"""The embedded plane's database, for the commands that work on it directly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pareta_agent.config import Settings
from pareta_agent.errors import ConfigError
from pareta_agent.plane.node_api import Plane
from pareta_agent.plane.serve import open_plane


@contextmanager
def open_local(settings: Settings) -> Iterator[Plane]:
    """The plane whose files are under this home; raises ConfigError where the node has another control plane."""
    if settings.plane.url is not None:
        raise ConfigError(
            "plane_elsewhere",
            f"this node reports to {settings.plane.url}, which keeps the ledger and the keys",
            "ask that control plane",
        )
    plane, database = open_plane(settings.home)
    try:
        yield plane
    finally:
        database.close()

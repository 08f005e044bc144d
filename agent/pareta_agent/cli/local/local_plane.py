"""Local plane: opens the embedded plane's database for commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pareta_agent.config import Settings
from pareta_agent.errors import ConfigError
from pareta_agent.plane.plane import Plane, open_plane
from pareta_agent.plane.seed import DATABASE, plane_home


@contextmanager
def open_local(settings: Settings) -> Iterator[Plane]:
    """The plane in this home or in `plane.database`.

    Raises ConfigError if no plane exists, and PlaneError if the database is damaged.
    """
    if settings.plane.url is not None:
        raise ConfigError(
            "plane_elsewhere",
            f"this node reports to {settings.plane.url}, which keeps the ledger and the keys",
            "use that control plane",
        )
    if settings.plane.database is None and not (plane_home(settings.home) / DATABASE).exists():
        raise ConfigError(
            "plane_missing",
            f"no control plane exists under {settings.home}",
            "start the node (or `pareta-agent plane serve`) once, or pass its --home",
        )
    plane, database = open_plane(settings.home, settings.plane.database)
    with database.closing():
        yield plane


def dollars(micro_usd: int) -> str:
    return f"{micro_usd / 1e6:.6f}"

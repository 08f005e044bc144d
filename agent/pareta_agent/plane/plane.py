"""A plane: everything that is asked of it, on one database. Who asks, and over what, it does not know.

It loads no web framework, so that a command which only looks something up is quick.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.clock import Clock, SystemClock
from pareta_agent.plane.credit import Credit
from pareta_agent.plane.database import Database
from pareta_agent.plane.deployments import Deployments
from pareta_agent.plane.ledger import Ledger
from pareta_agent.plane.measures import MetricQueries
from pareta_agent.plane.nodes import Nodes
from pareta_agent.plane.questions import PlanQueries
from pareta_agent.plane.seed import database_url, plane_home
from pareta_agent.plane.state import PlaneState


@dataclass(frozen=True, slots=True)
class Plane:
    """Its parts; `on` a database that has its tables. Who waits for news waits no longer once it is `leaving`."""

    clock: Clock
    state: PlaneState
    nodes: Nodes
    credit: Credit
    ledger: Ledger
    deployments: Deployments
    measures: MetricQueries
    questions: PlanQueries
    leaving: asyncio.Event

    @classmethod
    def on(cls, database: Database, clock: Clock) -> Plane:
        return cls(
            clock,
            PlaneState(database, clock),
            Nodes(database, clock),
            Credit(database, clock),
            Ledger(database, clock),
            Deployments(database, clock),
            MetricQueries(database),
            PlanQueries(),
            asyncio.Event(),
        )


def open_plane(home: Path, url: str | None = None) -> tuple[Plane, Database]:
    """The plane on its database, made where it is missing (files for their owner only)."""
    directory = plane_home(home)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(url or database_url(home))
    database.create()
    return Plane.on(database, SystemClock()), database


def first_key(plane: Plane, org: str) -> str | None:
    """The secret of the org's first key, minted now; None when it has one already."""
    return None if plane.state.key_rows(org) else plane.state.mint_key(org).secret

"""Plane: all parts of a control plane on one database, without a transport.

Loads no web framework, so that commands which only read start fast.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.clock import Clock, SystemClock
from pareta_agent.plane.metrics.queries import MetricQueries
from pareta_agent.plane.plan_queries import PlanQueries
from pareta_agent.plane.seed import database_url, plane_home
from pareta_agent.plane.store.api_keys import Keys
from pareta_agent.plane.store.credit_store import Credit
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.deployments import Deployments
from pareta_agent.plane.store.desired_state import DesiredState
from pareta_agent.plane.store.ledger import Ledger
from pareta_agent.plane.store.nodes import Nodes
from pareta_agent.plane.store.orgs import Orgs


@dataclass(frozen=True, slots=True)
class Plane:
    """The parts of a plane; `on` a database with tables. Pending long polls return once `leaving` is set."""

    clock: Clock
    desired_state: DesiredState
    orgs: Orgs
    keys: Keys
    nodes: Nodes
    credit: Credit
    ledger: Ledger
    deployments: Deployments
    metrics: MetricQueries
    plan_queries: PlanQueries
    leaving: asyncio.Event

    @classmethod
    def on(cls, database: Database, clock: Clock) -> Plane:
        return cls(
            clock,
            DesiredState(database, clock),
            Orgs(database),
            Keys(database, clock),
            Nodes(database, clock),
            Credit(database, clock),
            Ledger(database, clock),
            Deployments(database, clock),
            MetricQueries(database),
            PlanQueries(),
            asyncio.Event(),
        )


def open_plane(home: Path, url: str | None = None) -> tuple[Plane, Database]:
    """Opens the plane and creates a missing database (files readable by the owner only)."""
    directory = plane_home(home)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(url or database_url(home))
    database.create()
    return Plane.on(database, SystemClock()), database


def first_key(plane: Plane, org: str) -> str | None:
    """Mints and returns the org's first key; None when the org has a key."""
    return None if plane.keys.rows(org) else plane.keys.mint(org).secret

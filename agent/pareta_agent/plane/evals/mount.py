"""Eval mount: adds the tables, the routes' state and the runner of evals to a plane."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from pareta_agent.plane.evals.run_api import Evals
from pareta_agent.plane.evals.runner import Runner
from pareta_agent.plane.evals.runs import Runs
from pareta_agent.plane.evals.sets import Sets
from pareta_agent.plane.evals.vendors import Vendors
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.database import Database
from pareta_registry.catalog import Catalog


def mount(
    app: FastAPI, plane: Plane, database: Database, catalog: Callable[[], Catalog], vendors: Vendors
) -> Runner:
    """Adds the state that the routes require; the caller runs the returned runner."""
    sets, runs = Sets(database, plane.clock), Runs(database, plane.clock)
    runner = Runner(plane, sets, runs, catalog, vendors)
    app.state.eval_sets = sets
    app.state.evals = Evals(runs=runs, runner=runner, vendors=vendors)
    return runner

"""Public API: mounts every route of the `pareta` SDK, and the OpenAPI description."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI

from pareta_agent.plane.api import endpoint_api, metric_api, task_api
from pareta_agent.plane.api.auth import add_refusals
from pareta_agent.plane.evals import run_api, set_api
from pareta_registry.catalog import Catalog

ROUTERS = (endpoint_api.router, metric_api.router, task_api.router, set_api.router, run_api.router)
DESCRIPTION = "/v1/openapi.json"


def mount(app: FastAPI, catalog: Callable[[], Catalog]) -> None:
    """Adds the routes to the plane's app; `catalog` returns the current catalog."""
    app.state.catalog = catalog
    for router in ROUTERS:
        app.include_router(router)
    add_refusals(app)
    app.add_api_route(DESCRIPTION, description, include_in_schema=False)


@cache  # half a second of work that must not delay a start
def description() -> dict[str, Any]:
    """Returns OpenAPI 3.1 of the public API alone."""
    app = FastAPI(
        title="Pareta API", version="1", description="Deploy tasks, operate endpoints, compare models."
    )
    for router in ROUTERS:
        app.include_router(router)
    return app.openapi()

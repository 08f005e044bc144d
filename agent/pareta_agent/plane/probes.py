"""Probes: `/livez` while the plane runs, `/readyz` while the database answers, `/metrics` for Prometheus.

The routes require no key, and no label holds an org, a key or an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final

from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from pareta_agent import __version__
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.database import Database
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.telemetry.series import Series

STATES: Final = ("starting", "ready", "unready", "draining", "fenced", "suspect", "lost")
TABLE: Final = (
    Series("pareta_plane_build_info", "gauge", "Always 1; the plane's version.", ("version",)),
    Series("pareta_plane_ready", "gauge", "1 while the database answers and the plane does not stop."),
    Series("pareta_plane_requests_total", "counter", "Answered requests by API and status.", ("api", "code")),
    Series("pareta_plane_nodes", "gauge", "Nodes by state.", ("state",)),
    Series("pareta_plane_heartbeat_age_seconds", "gauge", "Age of a node's last heartbeat.", ("node",)),
    Series("pareta_scrape_errors_total", "counter", "Scrapes that failed to read the database.", ("source",)),
)
_APIS: Final = {"/node/v1/": "node", "/v1/": "public"}


def mount(app: FastAPI, plane: Plane, database: Database) -> None:
    """Adds the routes and the middleware that counts requests."""
    metrics = Metrics(TABLE)
    metrics.set("pareta_plane_build_info", 1, __version__)
    app.add_middleware(
        _Counted, count=lambda api, code: metrics.inc("pareta_plane_requests_total", api, code)
    )

    @app.get("/livez", include_in_schema=False)
    async def livez() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        reasons = await run_in_threadpool(_reasons, plane, database)
        return JSONResponse(
            {"status": "not ready" if reasons else "ok", "reasons": reasons}, 503 if reasons else 200
        )

    @app.get("/metrics", include_in_schema=False)
    def exposition() -> Response:
        metrics.set("pareta_plane_ready", 0 if _reasons(plane, database) else 1)
        try:
            _show_nodes(metrics, plane)
        except SQLAlchemyError:
            metrics.inc("pareta_scrape_errors_total", "database")
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _reasons(plane: Plane, database: Database) -> list[str]:
    """Returns the reasons against readiness; empty when ready."""
    if plane.leaving.is_set():
        return ["stopping"]
    try:
        with database.read() as connection:
            connection.execute(select(1))
    except SQLAlchemyError:
        return ["the database does not answer"]
    return []


def _show_nodes(metrics: Metrics, plane: Plane) -> None:
    rows = plane.nodes.rows()
    for state in {*STATES, *(row.state for row in rows)}:
        metrics.set("pareta_plane_nodes", sum(row.state == state for row in rows), state)
    for row in rows:
        if row.heartbeat_age_s is not None:
            metrics.set("pareta_plane_heartbeat_age_seconds", row.heartbeat_age_s, row.id)


class _Counted:
    """ASGI middleware: counts each answer by API and status."""

    def __init__(self, app: Any, count: Callable[[str, str], None]) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        async def counting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                api = next((api for start, api in _APIS.items() if scope["path"].startswith(start)), "other")
                self._count(api, str(message["status"]))
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)

"""The routes that are not inference: health, metrics, models, and an envelope for every other path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response

from pareta_agent.errors import AgentError
from pareta_agent.front import admission, passage
from pareta_agent.front.desk import Desk
from pareta_agent.front.envelope import Problem
from pareta_agent.front.messages import error_body
from pareta_agent.front.passage import respond
from pareta_agent.front.readiness import Readiness
from pareta_agent.front.routes import INFERENCE

# What Anthropic's SDKs ask for beside messages; they read a refusal in their own words only.
UNSERVED_MESSAGES: Final = ("/v1/messages/count_tokens", "/v1/messages/batches")
Handler = Callable[[Request], Awaitable[Response]]


def build(
    desk: Desk,
    readiness: Callable[[], Readiness],
    exposition: Callable[[], Awaitable[bytes]],
) -> Starlette:
    """The ASGI app. `exposition` returns the metrics' text."""
    app = Starlette()
    app.router.redirect_slashes = False

    async def livez(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        now = readiness()
        return _json(asdict(now), 503 if now.status == "not ready" else 200)

    async def metrics(_: Request) -> Response:
        return Response(await exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(request: Request) -> Response:
        return await _models(desk, request)

    for path, handler in (
        ("/livez", livez),
        ("/readyz", readyz),
        ("/metrics", metrics),
        ("/v1/models", models),
        ("/v1/models/{id}", models),
    ):
        app.add_route(path, handler, methods=["GET"])
    for _, target in INFERENCE:
        app.add_route(target.decode(), _spelt_otherwise, methods=["POST"])
    for path in UNSERVED_MESSAGES:
        app.add_route(path, _unserved, methods=["POST"])
    for path, methods in passage.ROUTES:
        app.add_route(path, passage.handler(desk.deps.plane_url), methods=methods)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broke)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_with_request_id(desk))
    return app


async def _models(desk: Desk, request: Request) -> Response:
    grant = admission.bearer_of(request.headers.get("authorization", "").encode("latin-1"))
    if isinstance(grant, Problem):
        return respond(grant)
    try:
        known = desk.deps.keys.peek(grant) or await desk.deps.keys.grant(grant)
    except AgentError:
        return respond(Problem("auth_unavailable"))
    if known is None or known.state == "revoked":
        return respond(Problem("invalid_api_key"))
    fleet = desk.deps.fleet_view()
    rows = [
        {"id": e.id, "object": "model", "created": e.created_s, "owned_by": e.org}
        for e in fleet.endpoints.values()
        if e.listed
        and e.status in ("live", "cold")
        and not isinstance(admission.find(e.id, known, fleet), Problem)
    ]
    if (wanted := request.path_params.get("id")) is not None:
        found = admission.find(wanted, known, fleet)
        one = next((row for row in rows if row["id"] == wanted), None)
        refused = found if isinstance(found, Problem) else Problem("endpoint_not_found", param="model")
        return respond(refused) if one is None else _json(one)
    return _json({"object": "list", "data": rows})


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = respond(Problem("method_not_allowed" if error.status_code == 405 else "route_not_found"))
    refused.headers.update(error.headers or {})  # which methods a route does take
    return refused


async def _spelt_otherwise(_: Request) -> Response:
    """What the table of inference does not have is none of it, but for the answer to another method."""
    return respond(Problem("route_not_found"))


async def _unserved(_: Request) -> Response:
    problem = Problem("route_unsupported")
    return Response(error_body(problem), problem.status, media_type="application/json")


async def _broke(_: Request, __: Exception) -> Response:
    return respond(Problem("internal"))


def _with_request_id(desk: Desk) -> Callable[[Request, Handler], Awaitable[Response]]:
    async def add(request: Request, call_next: Handler) -> Response:
        response = await call_next(request)
        response.headers["x-request-id"] = desk.new_request_id()
        return response

    return add

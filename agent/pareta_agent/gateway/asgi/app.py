"""ASGI app: health checks, metrics, models and the plane's routes; an error body for every other path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pareta_agent import __version__
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.contract.http_errors import respond
from pareta_agent.errors import AgentError
from pareta_agent.gateway.admission.rules import bearer_of, find
from pareta_agent.gateway.api.dialects.anthropic_messages import error_body
from pareta_agent.gateway.api.routes import INFERENCE
from pareta_agent.gateway.asgi.middleware import App, wrapped
from pareta_agent.gateway.asgi.plane_proxy import ROUTES as PLANE_ROUTES
from pareta_agent.gateway.asgi.plane_proxy import handler as plane_handler
from pareta_agent.gateway.asgi.readyz import Readiness
from pareta_agent.gateway.downstream.context import GatewayContext

# Anthropic's SDKs request these routes beside messages, and read a refusal only in Anthropic's own words.
UNSERVED_MESSAGES: Final = ("/v1/messages/batches",)
# The node's own name of readiness, vLLM's and SageMaker's.
READINESS: Final = ("/readyz", "/health", "/ping")
ANY_METHOD: Final = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def build(
    context: GatewayContext,
    readiness: Callable[[], Readiness],
    exposition: Callable[[], Awaitable[bytes]],
) -> App:
    """The ASGI app. `exposition` returns the metrics' text."""
    app = Starlette()
    app.router.redirect_slashes = False

    async def metrics(_: Request) -> Response:
        return Response(await exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(request: Request) -> Response:
        return await _models(context, request)

    _add_probes(app, readiness)
    for path, handler in (
        ("/metrics", metrics),
        ("/v1/models", models),
        ("/v1/models/{id}", models),
    ):
        app.add_route(path, handler, methods=["GET"])
    for _, target in INFERENCE:
        app.add_route(target.decode(), _spelt_otherwise, methods=["POST"])
    for path in UNSERVED_MESSAGES:
        app.add_route(path, _unserved, methods=["POST"])
    for path, methods in PLANE_ROUTES:
        app.add_route(path, plane_handler(context.deps.plane_url, context.hosts), methods=methods)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broke)
    return wrapped(app, context)


def _add_probes(app: Starlette, readiness: Callable[[], Readiness]) -> None:
    async def livez(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        now = readiness()
        return _json(asdict(now), 503 if now.status == "not ready" else 200)

    async def root(request: Request) -> Response:
        """Answers `OPTIONS /`, HAProxy's default health check; any other request is a 404."""
        return await readyz(request) if request.method == "OPTIONS" else respond(Problem("route_not_found"))

    async def version(_: Request) -> Response:
        return _json({"version": __version__})

    app.add_route("/", root, methods=ANY_METHOD)
    app.add_route("/livez", livez, methods=["GET"])
    app.add_route("/version", version, methods=["GET"])
    for path in READINESS:
        app.add_route(path, readyz, methods=["GET", "OPTIONS", *(["POST"] if path == "/ping" else [])])


async def _models(context: GatewayContext, request: Request) -> Response:
    grant = bearer_of(request.headers.get("authorization", "").encode("latin-1"))
    if isinstance(grant, Problem):
        return respond(grant)
    try:
        known = context.deps.keys.peek(grant) or await context.deps.keys.grant(grant)
    except AgentError:
        return respond(Problem("auth_unavailable"))
    if known is None or known.state == "revoked":
        return respond(Problem("invalid_api_key"))
    fleet = context.deps.fleet_view()
    rows = [
        _row(e)
        for e in fleet.endpoints.values()
        if e.listed and e.status in ("live", "cold") and not isinstance(find(e.id, known, fleet), Problem)
    ]
    if (wanted := request.path_params.get("id")) is not None:
        found = find(wanted, known, fleet)
        one = next((row for row in rows if row["id"] == wanted), None)
        refused = found if isinstance(found, Problem) else Problem("endpoint_not_found", param="model")
        return respond(refused) if one is None else _json(one)
    return _json({"object": "list", "data": rows})


def _row(endpoint: EndpointView) -> dict[str, object]:
    """A model in vLLM's format, so that tools find the context; unknown until the endpoint is planned here."""
    row: dict[str, object] = {"id": endpoint.id, "object": "model", "created": endpoint.created_s}
    context = endpoint.max_model_len
    return row | {"owned_by": endpoint.org} | ({} if context is None else {"max_model_len": context})


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.method == "OPTIONS" and error.status_code == 405:
        return Response(status_code=204, headers=error.headers)
    refused = respond(Problem("method_not_allowed" if error.status_code == 405 else "route_not_found"))
    refused.headers.update(error.headers or {})  # which methods a route does take
    return refused


async def _spelt_otherwise(_: Request) -> Response:
    """Answers a POST to another spelling of an inference route: only the route table's paths are inference."""
    return respond(Problem("route_not_found"))


async def _unserved(_: Request) -> Response:
    problem = Problem("route_unsupported")
    return Response(error_body(problem), problem.status, media_type="application/json")


async def _broke(_: Request, __: Exception) -> Response:
    return respond(Problem("internal"))

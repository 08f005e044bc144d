"""API authentication: identifies callers by key, and answers refusals. Keys and orgs isolate all routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pareta_agent.contract.api_errors import CATALOGUE, Problem
from pareta_agent.contract.http_errors import respond
from pareta_agent.plane.api.node_api import ThePlane
from pareta_agent.plane.store.api_keys import sha256_hex
from pareta_registry.catalog import Catalog

_NO_ROUTE = {404: "route_not_found", 405: "method_not_allowed"}
_BEARER = HTTPBearer(auto_error=False, description="A key: `pareta_sk_…`", scheme_name="key")


class ApiRefused(Exception):
    """A refusal for the caller, by a code of the error catalogue."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.problem = Problem(code, message)


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """`only` lists the endpoints that the key reaches; None for all of the org's."""

    org: str
    key_id: str
    credit: bool
    only: tuple[str, ...] | None

    def reaches(self, endpoint: str) -> bool:
        return self.only is None or endpoint in self.only


class Fault(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Refusal(BaseModel):
    """The body of every refusal: OpenAI's `error`, and `detail` for the `pareta` SDK."""

    error: Fault
    detail: str


def refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Returns a route's refusals for OpenAPI; each route may also refuse a wrong key and a wrong field."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in ("invalid_api_key", "validation_failed", *codes):
        status, _, said = CATALOGUE[code]
        earlier = found.get(status, {}).get("description", "")
        found[status] = {"model": Refusal, "description": f"{earlier} `{code}`: {said}".strip()}
    return found


def add_refusals(app: FastAPI) -> None:
    """Adds the error handlers. Refusals have the same body as inference errors; the nodes' wire keeps its own body."""

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiRefused)
        return respond(error.problem)

    def refuse_field(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(_invalid(error.errors()[0]))

    async def refuse_http(request: Request, error: Exception) -> Response:
        """Answers FastAPI's own errors: an unknown route, or an unreadable body. Paths outside /v1 keep FastAPI's
        answer.
        """
        assert isinstance(error, HTTPException)
        if not request.url.path.startswith("/v1/"):
            return await http_exception_handler(request, error)
        is_json = "json" in request.headers.get("content-type", "")
        unread = "invalid_json" if is_json else "validation_failed"
        return respond(Problem(_NO_ROUTE.get(error.status_code, unread)))

    app.add_exception_handler(ApiRefused, refuse)
    app.add_exception_handler(RequestValidationError, refuse_field)
    app.add_exception_handler(HTTPException, refuse_http)


def _invalid(found: dict[str, Any]) -> Problem:
    """Names the invalid field and the allowed values."""
    if found["type"] == "json_invalid":
        return Problem("invalid_json")
    where, *path = found["loc"]
    field = ".".join(map(str, path)) or None
    return Problem("validation_failed", f"{field or where}: {found['msg']}", field)


def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog()
    return catalog


def _caller(
    plane: ThePlane, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> ApiCaller:
    found = plane.keys.introspect(sha256_hex(given.credentials.strip())) if given else None
    if found is None or found.state == "revoked":
        raise ApiRefused("invalid_api_key")
    only = None if found.endpoints is None else tuple(found.endpoints)
    return ApiCaller(found.org, found.key_id, found.state == "active", only)


def _origin(
    x_forwarded_host: Annotated[str, Header(include_in_schema=False)] = "",
    x_forwarded_proto: Annotated[str, Header(include_in_schema=False)] = "http",
) -> str:
    """Returns the caller's address of the API, `https://host:port`; empty for a direct request to the plane."""
    return f"{x_forwarded_proto}://{x_forwarded_host}" if x_forwarded_host else ""


TheCatalog = Annotated[Catalog, Depends(_catalog)]
TheCaller = Annotated[ApiCaller, Depends(_caller)]
Origin = Annotated[str, Depends(_origin)]

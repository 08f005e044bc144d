"""The public API's endpoints: deploy with progress, list, start, stop, delete. Keys and orgs isolate all of it.

A deploy is a wish in the desired state: who asked may go away, and nodes make it so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from pareta_agent.front.envelope import Problem
from pareta_agent.front.passage import respond
from pareta_agent.plane.deployments import Deployed, Order, State
from pareta_agent.plane.node_api import Plane, ThePlane
from pareta_agent.plane.seed import DEFAULT_PRICE
from pareta_agent.plane.standing import Standing, stand
from pareta_agent.plane.state import sha256_hex
from pareta_registry.catalog import Catalog
from pareta_registry.resolve import Resolution, Unresolved, resolve

VERDICT_S = 10.0
LOOK_EVERY_S = 0.25
SIGN_OF_LIFE_S = 10.0
LONGEST_DEPLOY_S = 3600.0
router = APIRouter(prefix="/v1/endpoints")


class Refused(Exception):
    """A no to the caller, in the catalogue's words."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.problem = Problem(code, message)


@dataclass(frozen=True, slots=True)
class Caller:
    org: str
    credit: bool
    only: tuple[str, ...] | None


class DeployRequest(BaseModel):
    task: str = Field(min_length=1, max_length=128)
    model: str = Field("recommended", min_length=1, max_length=128)
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,50}$")


def mount(app: FastAPI, catalog: Catalog) -> None:
    """Adds the routes; refusals have the same body as inference's."""

    def refuse(_: Request, error: Exception) -> Response:
        return respond(error.problem if isinstance(error, Refused) else Problem("validation_failed"))

    app.state.catalog = catalog
    app.include_router(router)
    app.add_exception_handler(Refused, refuse)
    app.add_exception_handler(RequestValidationError, refuse)


def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog


def _caller(plane: ThePlane, authorization: Annotated[str, Header()] = "") -> Caller:
    scheme, _, key = authorization.partition(" ")
    found = plane.state.introspect(sha256_hex(key.strip())) if scheme.lower() == "bearer" else None
    if found is None or found.state == "revoked":
        raise Refused("invalid_api_key")
    only = None if found.endpoints is None else tuple(found.endpoints)
    return Caller(found.org, found.state == "active", only)


def _host(x_forwarded_host: Annotated[str, Header()] = "") -> str:
    return x_forwarded_host


TheCatalog = Annotated[Catalog, Depends(_catalog)]
TheCaller = Annotated[Caller, Depends(_caller)]
Host = Annotated[str, Depends(_host)]


@router.get("")
def every(caller: TheCaller, plane: ThePlane, catalog: TheCatalog, host: Host) -> list[dict[str, Any]]:
    mine = plane.deployments.of(caller.org)
    return [
        record(each, _standing(plane, each), catalog, host)
        for each in mine
        if caller.only is None or each.id in caller.only
    ]


@router.post("")
async def deploy(
    body: DeployRequest, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, host: Host
) -> Response:
    """Named events: `progress`, then `complete` {endpoint} or `error` {message}. What cannot be is refused at once."""
    if caller.only is not None:
        raise Refused("endpoint_forbidden", "This key reaches only the endpoints that it names.")
    if not caller.credit:
        raise Refused("insufficient_credit")
    found = resolve(catalog, body.task, body.model)
    if isinstance(found, Unresolved):
        raise Refused("task_not_found", found.message)
    if body.name is not None:
        taken: bool = await run_in_threadpool(plane.deployments.named, caller.org, body.name)
        if taken:
            raise Refused("endpoint_exists")
    await _room_for(plane, found)
    family, _, rank = found.alias.id.rpartition("-")
    base = family if rank.isdigit() and family else found.alias.id
    order = Order(caller.org, found.task.id, found.alias.id, base, DEFAULT_PRICE, body.name)
    made = await run_in_threadpool(plane.deployments.create, order)
    if made is None:
        raise Refused("endpoint_exists")
    return StreamingResponse(_progress(plane, made, catalog, host), media_type="text/event-stream")


@router.get("/{id}")
def one(id: str, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, host: Host) -> dict[str, Any]:  # noqa: A002
    found = _allowed(caller, id, plane.deployments.find(caller.org, id))
    return record(found, _standing(plane, found), catalog, host)


@router.post("/{id}/start")
def start(id: str, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, host: Host) -> dict[str, Any]:  # noqa: A002
    if not caller.credit:
        raise Refused("insufficient_credit")
    return _turn(id, "running", caller, plane, catalog, host)


@router.post("/{id}/stop")
def stop(id: str, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, host: Host) -> dict[str, Any]:  # noqa: A002
    return _turn(id, "stopped", caller, plane, catalog, host)


@router.delete("/{id}", status_code=204)
def delete(id: str, caller: TheCaller, plane: ThePlane) -> None:  # noqa: A002
    _allowed(caller, id, plane.deployments.find(caller.org, id))
    plane.deployments.turn(caller.org, id, "deleted")


def record(found: Deployed, standing: Standing, catalog: Catalog, host: str) -> dict[str, Any]:
    """An endpoint as its owner sees it: nothing about hardware or weights."""
    task = next((task for task in catalog.tasks if task.id == found.task), None)
    live = standing.status == "live"
    return {
        "id": found.id,
        "name": found.name,
        "model": found.alias,
        "taskName": found.task,
        "status": standing.status,
        "reason": standing.reason,
        "url": f"http://{host}/v1" if live and host else None,
        "createdAt": datetime.fromtimestamp(found.created_s, UTC).isoformat(),
        "recommendedSystemPrompt": task.system_prompt if task else None,
        "promptScaffold": task.prompt_scaffold if task else None,
    }


def _allowed(caller: Caller, endpoint: str, found: Deployed | None) -> Deployed:
    """Another org's endpoint is as unknown as one that never was."""
    if found is None or (caller.only is not None and endpoint not in caller.only):
        raise Refused("endpoint_not_found")
    return found


def _turn(
    endpoint: str, state: State, caller: Caller, plane: Plane, catalog: Catalog, host: str
) -> dict[str, Any]:
    found = _allowed(caller, endpoint, plane.deployments.find(caller.org, endpoint))
    if found.state != state or _standing(plane, found).status == "failed":
        found = _allowed(caller, endpoint, plane.deployments.turn(caller.org, endpoint, state))
    return record(found, _standing(plane, found), catalog, host)


def _standing(plane: Plane, found: Deployed) -> Standing:
    return stand(found.id, found.state, found.revision, [each.observed for each in plane.nodes.reports()])


async def _room_for(plane: Plane, found: Resolution) -> None:
    """Asks the living nodes' planners; one that stays silent is believed to have room: its own start will tell."""
    nodes = [each.node for each in await run_in_threadpool(plane.nodes.reports)]
    if not nodes:
        raise Refused("no_capacity", "No node is there to run it.")
    verdict = await plane.questions.ask(nodes, found.task.id, found.alias.id, VERDICT_S)
    if verdict is not None and verdict.verdict != "fits":
        raise Refused("no_capacity" if verdict.verdict == "busy" else "nothing_fits", verdict.reason)


async def _progress(plane: Plane, made: Deployed, catalog: Catalog, host: str) -> AsyncIterator[bytes]:
    begun_s = heard_s = plane.clock.mono_s()
    told: dict[str, Any] = {}
    while (now_s := plane.clock.mono_s()) - begun_s < LONGEST_DEPLOY_S:
        found = await run_in_threadpool(plane.deployments.find, made.org, made.id)
        if found is None or found.state != "running":
            yield _event("error", {"message": "it was stopped or deleted by its owner"})
            return
        standing = await run_in_threadpool(_standing, plane, found)
        if standing.status == "live":
            yield _event("complete", {"endpoint": record(found, standing, catalog, host)})
            return
        if standing.status == "failed":
            yield _event("error", {"message": standing.reason or "it could not be started"})
            return
        line = {"endpoint": made.id, "status": standing.status, "message": "waiting for a node", "percent": 0}
        line |= standing.progress.model_dump() if standing.progress else {}
        if line != told:
            told, heard_s = line, now_s
            yield _event("progress", line)
        elif now_s - heard_s > SIGN_OF_LIFE_S:
            heard_s = now_s
            yield b": still there\n\n"
        await plane.clock.sleep(LOOK_EVERY_S)
    yield _event("error", {"message": "it is still on its way; ask for the endpoint later"})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

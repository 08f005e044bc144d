"""Endpoints API: deploys with progress, lists, changes, starts, stops and deletes endpoints.

A deploy writes the desired state: the caller may disconnect, and nodes continue. Keys and orgs isolate all routes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from pareta_agent.contract.stream_headers import UNBUFFERED
from pareta_agent.contract.wire import Observed
from pareta_agent.plane.api.auth import ApiCaller, ApiRefused, Origin, TheCaller, TheCatalog, refusals
from pareta_agent.plane.api.endpoint_record import EndpointRecord, record
from pareta_agent.plane.api.node_api import ThePlane
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.seed import price_of
from pareta_agent.plane.store.deployments import Deployed, DeployOrder, State
from pareta_agent.plane.store.endpoint_status import Standing, is_stopped, standing_of
from pareta_registry.catalog import Catalog
from pareta_registry.resolve import Resolution, Unresolved, resolve

VERDICT_S = 10.0
LOOK_EVERY_S = 0.25
STOPPED_WITHIN_S = 10.0
SIGN_OF_LIFE_S = 10.0
LONGEST_DEPLOY_S = 3600.0
router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])
_UNKNOWN = refusals("endpoint_not_found")
_EVENTS = {
    "description": "Named events, each with {status, message}: `progress` {phase, percent, eta_s}, then `complete`"
    " {endpoint} or `error`.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}

IdleSleepS = Annotated[
    float,
    Field(
        strict=True,
        ge=0,
        allow_inf_nan=False,
        description="Idle timeout in seconds, after which the endpoint may sleep; 0: never.",
    ),
]


class DeployRequest(BaseModel):
    task: str = Field(min_length=1, max_length=128)
    model: str = Field("recommended", min_length=1, max_length=128)
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,50}$")
    idle_sleep_s: IdleSleepS | None = None


class ChangeRequest(BaseModel):
    """Changeable settings. Null removes the owner's value: then the model's default applies, else the node's."""

    model_config = ConfigDict(extra="forbid")
    idle_sleep_s: IdleSleepS | None


@router.get("", responses=refusals())
def every(caller: TheCaller, plane: ThePlane, catalog: TheCatalog, origin: Origin) -> list[EndpointRecord]:
    reports = _reports(plane)
    return [
        record(each, standing_of(each.id, each.state, each.revision, reports), catalog, origin)
        for each in plane.deployments.of(caller.org)
        if caller.reaches(each.id)
    ]


@router.post(
    "",
    response_class=StreamingResponse,
    responses={
        **refusals(
            "invalid_json",
            "insufficient_credit",
            "endpoint_forbidden",
            "task_not_found",
            "endpoint_exists",
            "nothing_fits",
            "no_capacity",
        ),
        200: _EVENTS,
    },
)
async def deploy(
    body: DeployRequest, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, origin: Origin
) -> Response:
    """Streams named events: `progress`, then `complete` {endpoint} or `error`; each has {status, message}.

    An impossible deploy is refused at once.
    """
    if caller.only is not None:
        raise ApiRefused("endpoint_forbidden", "This key reaches only the endpoints of its own list.")
    if not caller.credit:
        raise ApiRefused("insufficient_credit")
    found = resolve(catalog, body.task, body.model)
    if isinstance(found, Unresolved):
        raise ApiRefused("task_not_found", found.message)
    if body.name is not None:
        taken: bool = await run_in_threadpool(plane.deployments.named, caller.org, body.name)
        if taken:
            raise ApiRefused("endpoint_exists")
    await _check_capacity(plane, found)
    family, _, rank = found.alias.id.rpartition("-")
    base = family if rank.isdigit() and family else found.alias.id
    names = (caller.org, found.task.id, found.alias.id, base)
    order = DeployOrder(*names, price_of(found.alias), body.name, idle_sleep_s=body.idle_sleep_s)
    made = await run_in_threadpool(plane.deployments.create, order)
    if made is None:
        raise ApiRefused("endpoint_exists")
    headers = {name.decode(): value.decode() for name, value in UNBUFFERED}
    return StreamingResponse(_progress(plane, made, catalog, origin), 200, headers, "text/event-stream")


@router.get("/{id}", responses=_UNKNOWN)
def one(id: str, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, origin: Origin) -> EndpointRecord:  # noqa: A002
    return _record(plane, find(plane, caller, id), catalog, origin)


@router.patch("/{id}", responses=refusals("invalid_json", "endpoint_not_found"))
def change(
    id: str,  # noqa: A002
    body: ChangeRequest,
    caller: TheCaller,
    plane: ThePlane,
    catalog: TheCatalog,
    origin: Origin,
) -> EndpointRecord:
    """Returns once the change is stored. Running engines continue; nodes apply the new idle timeout at the next
    check.
    """
    find(plane, caller, id)
    changed = plane.deployments.set_idle_timeout(caller.org, id, body.idle_sleep_s)
    return _record(plane, _allowed(caller, id, changed), catalog, origin)


@router.post("/{id}/start", responses=refusals("insufficient_credit", "endpoint_not_found"))
def start(id: str, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, origin: Origin) -> EndpointRecord:  # noqa: A002
    """Returns once the desired state is stored. Calls wait for the endpoint; the record shows when the endpoint is
    live.
    """
    if not caller.credit:
        raise ApiRefused("insufficient_credit")
    return _record(plane, _set_state(id, "running", caller, plane), catalog, origin)


@router.post("/{id}/stop", responses=_UNKNOWN)
async def stop(
    id: str,  # noqa: A002
    caller: TheCaller,
    plane: ThePlane,
    catalog: TheCatalog,
    origin: Origin,
) -> EndpointRecord:
    """Returns when the nodes refuse calls for the endpoint; admitted requests still finish."""
    found = await run_in_threadpool(_set_state, id, "stopped", caller, plane)
    await _until_stopped(plane, id)
    return await run_in_threadpool(_record, plane, found, catalog, origin)


@router.delete("/{id}", status_code=204, responses=_UNKNOWN)
async def delete(id: str, caller: TheCaller, plane: ThePlane) -> None:  # noqa: A002
    await run_in_threadpool(_set_state, id, "deleted", caller, plane)
    await _until_stopped(plane, id)


def find(plane: Plane, caller: ApiCaller, endpoint: str) -> Deployed:
    """Returns the caller's endpoint; another org's endpoint is refused as not found."""
    return _allowed(caller, endpoint, plane.deployments.find(caller.org, endpoint))


def _allowed(caller: ApiCaller, endpoint: str, found: Deployed | None) -> Deployed:
    if found is None or not caller.reaches(endpoint):
        raise ApiRefused("endpoint_not_found")
    return found


def _set_state(endpoint: str, state: State, caller: ApiCaller, plane: Plane) -> Deployed:
    found = find(plane, caller, endpoint)
    if found.state == state and _standing(plane, found).status != "failed":
        return found
    return _allowed(caller, endpoint, plane.deployments.set_state(caller.org, endpoint, state))


async def _until_stopped(plane: Plane, endpoint: str) -> None:
    """Waits until no node serves the endpoint, for a bounded time when a node does not report."""
    until_s = plane.clock.mono_s() + STOPPED_WITHIN_S
    while (
        not is_stopped(endpoint, await run_in_threadpool(_reports, plane)) and plane.clock.mono_s() < until_s
    ):
        await plane.clock.sleep(LOOK_EVERY_S)


def _reports(plane: Plane) -> list[Observed | None]:
    return [each.observed for each in plane.nodes.reports()]


def _standing(plane: Plane, found: Deployed) -> Standing:
    return standing_of(found.id, found.state, found.revision, _reports(plane))


def _record(plane: Plane, found: Deployed, catalog: Catalog, origin: str) -> EndpointRecord:
    return record(found, _standing(plane, found), catalog, origin)


async def _check_capacity(plane: Plane, found: Resolution) -> None:
    """Queries the living nodes' planners; a node without an answer counts as feasible, because the start will show."""
    nodes = [each.node for each in await run_in_threadpool(plane.nodes.reports)]
    if not nodes:
        raise ApiRefused("no_capacity", "No node is available to run the endpoint.")
    verdict = await plane.plan_queries.ask(nodes, found.task.id, found.alias.id, VERDICT_S)
    if verdict is not None and verdict.verdict != "fits":
        raise ApiRefused("no_capacity" if verdict.verdict == "busy" else "nothing_fits", verdict.reason)


async def _progress(plane: Plane, made: Deployed, catalog: Catalog, origin: str) -> AsyncIterator[bytes]:
    begun_s = heard_s = plane.clock.mono_s()
    reported: dict[str, Any] = {}
    while (now_s := plane.clock.mono_s()) - begun_s < LONGEST_DEPLOY_S:
        found = await run_in_threadpool(plane.deployments.find, made.org, made.id)
        if found is None or found.state != "running":
            yield _event(
                "error", {"status": "stopped", "message": "the endpoint was stopped or deleted by its owner"}
            )
            return
        standing = await run_in_threadpool(_standing, plane, found)
        if standing.status == "live":
            made_live = record(found, standing, catalog, origin).model_dump()
            yield _event(
                "complete", {"endpoint": made_live, "status": "live", "message": f"{made.id} is live"}
            )
            return
        if standing.status == "failed":
            reason = standing.reason or "the endpoint could not be started"
            yield _event("error", {"status": "failed", "message": reason})
            return
        line = {"endpoint": made.id, "status": standing.status, "message": "waiting for a node", "percent": 0}
        line |= standing.progress.model_dump() if standing.progress else {}
        if line != reported:
            reported, heard_s = line, now_s
            yield _event("progress", line)
        elif now_s - heard_s > SIGN_OF_LIFE_S:
            heard_s = now_s
            yield b": still there\n\n"
        await plane.clock.sleep(LOOK_EVERY_S)
    later = "the deploy continues; request the endpoint later"
    yield _event("error", {"status": standing.status, "message": later})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

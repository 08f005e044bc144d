"""Node API: the wire's server side, from HTTP requests to the plane's answers. No decisions."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from pareta_agent.contract import wire
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.ledger import Taken

_LONGEST_WAIT_S = 60.0
_LOOK_EVERY_S = 0.25
T = TypeVar("T")


router = APIRouter(prefix="/node/v1")


def create_app(plane: Plane) -> FastAPI:
    app = FastAPI(title="Pareta node wire", version=str(wire.VERSION), docs_url=None, redoc_url=None)
    app.state.plane = plane
    app.include_router(router)
    return app


def _plane(request: Request) -> Plane:
    plane: Plane = request.app.state.plane
    return plane


ThePlane = Annotated[Plane, Depends(_plane)]


def _caller(plane: ThePlane, authorization: Annotated[str, Header()] = "") -> str:
    """Returns the node that the token names."""
    scheme, _, token = authorization.partition(" ")
    node = plane.nodes.of_token(token) if scheme.lower() == "bearer" and token else None
    if node is None:
        raise HTTPException(401, "unknown node token")
    return node


Caller = Annotated[str, Depends(_caller)]


def _own(node: str, caller: Caller) -> str:
    """Returns the path's node, which must be the caller."""
    return _same(node, caller)


Node = Annotated[str, Depends(_own)]


@router.post("/register")
def register(body: wire.Register, caller: Caller, plane: ThePlane) -> wire.Registered:
    _same(body.node, caller)
    return plane.nodes.register(body)


@router.post("/nodes/{node}/heartbeat", responses={410: {"description": "a newer epoch exists"}})
def heartbeat(node: Node, body: wire.Heartbeat, plane: ThePlane) -> wire.HeartbeatAnswer:
    _same(body.node, node)
    return _current(plane.nodes.heartbeat(body))


@router.get("/nodes/{node}/desired")
async def desired(_node: Node, plane: ThePlane, revision: int = -1, wait_s: float = 0.0) -> wire.Desired:
    """Answers at once when the revision differs; otherwise polls, because the database has other writers."""
    end_s = plane.clock.mono_s() + min(wait_s, _LONGEST_WAIT_S)
    while True:
        found = await run_in_threadpool(plane.desired_state.read)
        if found.revision != revision or plane.leaving.is_set() or plane.clock.mono_s() >= end_s:
            return found
        await plane.clock.sleep(_LOOK_EVERY_S)


@router.post("/nodes/{node}/observed", status_code=204)
def observed(node: Node, body: wire.Observed, plane: ThePlane) -> None:
    _current(plane.nodes.observed(node, body) or None)


@router.get("/nodes/{node}/questions")
async def questions(node: Node, plane: ThePlane, wait_s: float = 0.0) -> wire.PlanQuestions:
    end_s = plane.clock.mono_s() + min(wait_s, _LONGEST_WAIT_S)
    while True:
        left_s = end_s - plane.clock.mono_s()
        found = await plane.plan_queries.open(node, max(0.0, min(left_s, _LOOK_EVERY_S)))
        if found or plane.leaving.is_set() or left_s <= 0:
            return wire.PlanQuestions(server_time=plane.clock.wall_s(), questions=found)


@router.post("/nodes/{node}/verdicts", status_code=204)
async def verdicts(node: Node, body: wire.PlanVerdict, plane: ThePlane) -> None:
    plane.plan_queries.answer(node, body)


@router.post(
    "/nodes/{node}/events",
    response_model=wire.Ack,
    responses={409: {"model": wire.Gap}, 413: {"description": "split the batch"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {wire.EVENTS_CONTENT_TYPE: {"schema": {"type": "array", "items": {"type": "object"}}}},
        }
    },
)
async def events(node: Node, request: Request, plane: ThePlane, resync: bool = False) -> Response:
    """With `resync` a chain may continue after a gap, which is recorded: the node no longer has the missing events."""
    batch = _batch(await _body(request))
    found = await run_in_threadpool(plane.ledger.take, node, batch, resync)
    now_s = plane.clock.wall_s()
    if isinstance(found, Taken):
        ack = wire.Ack(
            server_time=now_s,
            epoch=found.epoch,
            acked_seq=found.acked_seq,
            hash=found.hash,
            duplicates=found.duplicates,
            rejected=[wire.Rejected(sequence=sequence, reason=reason) for sequence, reason in found.rejected],
        )
        return Response(ack.model_dump_json(), media_type="application/json")
    if found.expected_seq is not None:
        return JSONResponse(wire.Gap(server_time=now_s, expected_seq=found.expected_seq).model_dump(), 409)
    raise HTTPException(422, found.reason)


@router.post("/keys:introspect", responses={404: {"description": "no such key"}})
def introspect(body: wire.Introspect, _caller: Caller, plane: ThePlane) -> wire.KeyAnswer:
    found = plane.keys.introspect(body.sha256)
    if found is None:
        raise HTTPException(404, "no such key")
    return found


@router.post("/credit:lease", responses={410: {"description": "a newer epoch exists"}})
def lease(body: wire.CreditRequest, caller: Caller, plane: ThePlane) -> wire.CreditAnswer:
    _current(plane.nodes.current(caller, body.epoch) or None)
    granted = plane.credit.lease(caller, body.org, body.micro_usd, body.heard_micro_usd)
    return wire.CreditAnswer(server_time=plane.clock.wall_s(), lease=granted)


def _same(node: str, caller: str) -> str:
    if node != caller:
        raise HTTPException(403, "this token is another node's")
    return node


def _current(answer: T | None) -> T:
    if answer is None:
        raise HTTPException(410, "a newer epoch of this node exists: register again")
    return answer


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > wire.MAX_EVENTS_BYTES:
                raise HTTPException(413, "split the batch")
            parts.append(part)
    except ClientDisconnect:
        raise HTTPException(400, "the batch was cut") from None
    return b"".join(parts)


def _batch(body: bytes) -> list[dict[str, Any]]:
    try:
        batch = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HTTPException(422, "not JSON") from None
    if not isinstance(batch, list) or not batch or not all(isinstance(event, dict) for event in batch):
        raise HTTPException(422, "not a batch of events")
    if len(batch) > wire.MAX_EVENTS:
        raise HTTPException(413, "split the batch")
    return batch

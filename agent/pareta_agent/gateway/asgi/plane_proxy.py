"""Plane proxy: passes an exact list of public API routes to the embedded plane.

The plane checks the key and reads the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from yarl import URL

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.http_errors import respond
from pareta_agent.gateway.asgi.forwarded import reached
from pareta_agent.gateway.downstream.host_allowlist import Hosts

_ONE = "/v1/endpoints/{id}"
_TASK = "/v1/tasks/{id}"
_SET = "/v1/eval-sets/{id}"
ROUTES: Final = (
    ("/v1/endpoints", ["GET", "POST"]),
    (_ONE, ["GET", "PATCH", "DELETE"]),
    (f"{_ONE}/start", ["POST"]),
    (f"{_ONE}/stop", ["POST"]),
    (f"{_ONE}/performance", ["GET"]),
    (f"{_ONE}/uptime", ["GET"]),
    (f"{_ONE}/cost", ["GET"]),
    (f"{_ONE}/quality", ["GET"]),
    (f"{_ONE}/activity", ["GET"]),
    ("/v1/tasks", ["GET"]),
    ("/v1/tasks/match", ["POST"]),
    (_TASK, ["GET"]),
    (f"{_TASK}/leaderboard", ["GET"]),
    ("/v1/eval-sets", ["GET", "POST"]),
    (_SET, ["GET", "DELETE"]),
    (f"{_SET}/attach-blob", ["POST"]),
    (f"{_SET}/blob-upload-url", ["POST"]),
    (f"{_SET}/blob-upload-complete", ["POST"]),
    ("/v1/eval-blobs/{token}", ["PUT"]),
    ("/v1/eval-runs", ["POST"]),
    ("/v1/eval-runs/{id}", ["GET"]),
    ("/v1/eval/frontier-models", ["GET"]),
    ("/v1/openapi.json", ["GET"]),
)
MAX_BODY_BYTES: Final = 64 * 2**10
# Rows and documents come in larger bodies; the plane itself limits each.
MAX_UPLOAD_BYTES: Final = 33 * 2**20
UPLOAD_PATHS: Final = ("/v1/eval-sets", "/v1/eval-blobs/")
BODY_S: Final = 30.0
CONNECT_S: Final = 5.0
SILENCE_S: Final = 60.0
_UP: Final = ("authorization", "content-type")
_DOWN: Final = (
    *("content-type", "cache-control", "x-accel-buffering"),
    *("retry-after", "x-should-retry", "www-authenticate"),
)


def handler(plane_url: str | None, hosts: Hosts) -> Callable[[Request], Awaitable[Response]]:
    """The handler of the plane's routes: the plane at `plane_url`, or a refusal if there is none."""

    async def elsewhere(_: Request) -> Response:
        return respond(Problem("api_elsewhere"))

    async def forward(request: Request) -> Response:
        body = bytearray()
        limit = MAX_UPLOAD_BYTES if request.url.path.startswith(UPLOAD_PATHS) else MAX_BODY_BYTES
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        return respond(Problem("body_too_large"))
        except TimeoutError:
            return respond(Problem("request_timeout"))
        origin = reached(request.headers, request.url.scheme, hosts)
        return await _pass(str(plane_url), request, bytes(body), origin)

    return forward if plane_url else elsewhere


async def _pass(plane_url: str, request: Request, body: bytes, origin: tuple[str, str]) -> Response:
    headers = {name: request.headers[name] for name in _UP if name in request.headers}
    headers["x-forwarded-proto"], headers["x-forwarded-host"] = origin
    target = request.scope["raw_path"].decode("latin-1")
    if query := request.scope["query_string"]:
        target += "?" + query.decode("latin-1")
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENCE_S)
    )
    try:
        answer = await session.request(
            request.method, URL(plane_url + target, encoded=True), data=body, headers=headers
        )
    except (TimeoutError, aiohttp.ClientError):
        await session.close()
        return respond(Problem("plane_unavailable"))
    except BaseException:
        await session.close()
        raise
    kept = {name: answer.headers[name] for name in _DOWN if name in answer.headers}
    return StreamingResponse(_relay(session, answer), answer.status, kept)


async def _relay(session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with session, answer:
        async for part in answer.content.iter_any():
            yield part

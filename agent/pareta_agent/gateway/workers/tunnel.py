"""Tunnel: proxies a worker's requests that are not inference to the main process, over a socket pair each.

Path, headers, body and answer pass unchanged.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import aiohttp
from yarl import URL

from pareta_agent.contract.api_errors import Problem, body_of, headers_of

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_OF_ONE_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"date", b"upgrade", b"http2-settings", b"te")
)
SILENCE_S: Final = 90.0


class _Pairs(aiohttp.BaseConnector):
    """Connects over socket pairs; `give` receives the other end of each."""

    def __init__(self, give: Callable[[socket.socket], None]) -> None:
        super().__init__(force_close=True, limit=0)
        self._give = give

    async def _create_connection(self, *_: Any) -> Any:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._give(theirs)
        made: Any = await self._loop.create_unix_connection(self._factory, sock=ours)
        return made[1]


class Tunnel:
    """An ASGI app. `give` sends a connection's end to the main process; when `leaving`, each answer is the
    connection's last.
    """

    def __init__(
        self, give: Callable[[socket.socket], None], leaving: Callable[[], bool] = lambda: False
    ) -> None:
        self._leaving = leaving
        self._session = aiohttp.ClientSession(
            connector=_Pairs(give),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S),
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        passed = [(k, v) for k, v in headers if k.encode() not in _OF_ONE_HOP]
        sized = any(name in ("content-length", "transfer-encoding") for name, _ in headers)
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        try:
            answer = await self._session.request(
                scope["method"],
                URL("http://localhost" + target, encoded=True),
                data=_body(receive) if sized else None,
                headers=passed,
                allow_redirects=False,
            )
        except (TimeoutError, aiohttp.ClientError, OSError):
            await _refuse(send, Problem("internal"))
            return
        async with answer:
            found = [(k.lower(), v) for k, v in answer.raw_headers if k.lower() not in _OF_ONE_HOP]
            found += [(b"connection", b"close")] if self._leaving() else []
            await send({"type": "http.response.start", "status": answer.status, "headers": found})
            async for part in answer.content.iter_any():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})


async def _refuse(send: Send, problem: Problem) -> None:
    headers = [(b"content-type", b"application/json"), *headers_of(problem)]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body_of(problem)})


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        yield message.get("body", b"")
        if not message.get("more_body"):
            return

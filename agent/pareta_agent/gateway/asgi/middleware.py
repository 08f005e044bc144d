"""ASGI middleware of the routes that are not inference: path normalization, request id, CORS, lame duck."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.downstream.request_head import client_request_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def wrapped(app: App, context: GatewayContext) -> App:
    """`app` behind the middleware, which answers the preflight of an allowed page itself."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        fields = dict(scope["headers"])
        added = [
            (b"x-request-id", context.new_request_id().encode()),
            *context.cors.headers(fields.get(b"origin")),
        ]
        if (given := client_request_id(fields)) is not None:
            added.append((b"x-client-request-id", given))

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                last = [(b"connection", b"close")] if context.lame_duck else []
                message["headers"] = [*message["headers"], *added, *last]
            await send(message)

        allowed = context.cors.preflight(scope["method"], fields)
        if allowed is None:
            await app(_normalized(scope), receive, send_more)
        else:
            await send_more({"type": "http.response.start", "status": 204, "headers": allowed})
            await send({"type": "http.response.body"})

    return answer


def _normalized(scope: Message) -> Message:
    """Removes a slash at the end of a path."""
    if scope["path"] == "/" or not scope["raw_path"].endswith(b"/"):
        return scope
    return {**scope, "path": scope["path"][:-1], "raw_path": scope["raw_path"][:-1]}

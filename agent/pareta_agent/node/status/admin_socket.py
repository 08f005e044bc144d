"""Admin socket: serves the operator's commands on a unix socket that only the node's user can open.

`GET /status` returns the content of `pareta-agent status`; `POST /flush` returns once the plane has every record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from pareta_agent.errors import HostError

ASK_TIMEOUT_S = 10.0


class Admin:
    """Serves the socket until `stop`; `status` and `flush` are the node's."""

    def __init__(
        self, path: Path, status: Callable[[], dict[str, Any]], flush: Callable[[], Awaitable[bool]]
    ) -> None:
        self._path, self._status, self._flush = path, status, flush
        self._runner: web.AppRunner | None = None
        self._inode = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/status", self._get_status)
        app.router.add_post("/flush", self._post_flush)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)
        self._inode = self._path.stat().st_ino

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # otherwise the socket belongs to the successor
                self._path.unlink()

    async def _get_status(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self._status(), default=str), content_type="application/json")

    async def _post_flush(self, _: web.Request) -> web.Response:
        return web.json_response({"flushed": await self._flush()})


async def ask(path: Path, method: str, route: str) -> Any | None:
    """The running node's answer, or None when no node listens at `path`.

    Raises HostError when a listening node does not answer within 10 s.
    """
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
            ) as session,
            session.request(method, f"http://node{route}") as response,
        ):
            return await response.json()
    except (aiohttp.ClientConnectorError, FileNotFoundError):
        return None
    except (TimeoutError, aiohttp.ClientError) as error:
        raise HostError(
            "node_silent",
            f"the node behind {path} does not answer: {error!r}",
            "read the node's log, or restart the node",
        ) from error

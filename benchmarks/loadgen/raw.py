"""The floor of a Python relay on this machine: bytes pass both ways on uvloop, and nothing looks at them.

No key, no HTTP, no metering, one engine connection for each caller's. What the front costs above this is its own doing.

    python raw.py ENGINE_SOCKET PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop


class Upstream(asyncio.Protocol):
    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        for data in self.caller.early:
            transport.write(data)
        self.caller.upstream = transport

    def data_received(self, data: bytes) -> None:
        self.caller.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.caller.transport.close()


class Caller(asyncio.Protocol):
    def __init__(self, socket: str) -> None:
        self.socket, self.early, self.upstream = socket, [], None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(loop.create_unix_connection(lambda: Upstream(self), self.socket))

    def data_received(self, data: bytes) -> None:
        if self.upstream is None:
            self.early.append(data)
        else:
            self.upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.upstream is not None:
            self.upstream.close()


async def serve(socket: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Caller(socket), "127.0.0.1", port, backlog=4096
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))

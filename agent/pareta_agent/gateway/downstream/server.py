"""HTTP server: uvicorn's server on sockets made before, started and stopped by the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import uvicorn

HANDSHAKE_S = 15.0
GOODBYE_LOOKS = 50


class GatewayServer(uvicorn.Server):
    """uvicorn's server, stopped by an event; signals and drains are handled by node and gateway."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.leaving = asyncio.Event()
        self.servers = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's startup with a deadline for TLS handshakes, which no other timeout covers."""
        await self.lifespan.startup()
        connection: Any = self.config.http_protocol_class
        self.servers += [
            await asyncio.get_running_loop().create_server(
                partial(connection, config=self.config, server_state=self.server_state, app_state={}),
                sock=sock,
                ssl=self.config.ssl,
                ssl_handshake_timeout=HANDSHAKE_S if self.config.ssl else None,
                backlog=self.config.backlog,
            )
            for sock in sockets or ()
        ]
        self.started = True
        self.up.set()

    async def main_loop(self) -> None:
        while not self.leaving.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        connections = self.server_state.connections
        for connection in list(connections):
            connection.transport.close()
        for _ in range(GOODBYE_LOOKS):  # TLS sends the closing alert and waits for the peer's
            if connections:
                await asyncio.sleep(0.01)
        for connection in list(connections):
            connection.transport.abort()
        await asyncio.sleep(0)

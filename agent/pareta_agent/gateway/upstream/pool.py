"""Connection pool: keep-alive HTTP/1.1 connections to the engines over Unix sockets, one request at a time on each.

The pool handles no requests: a reader receives every byte of the answer, or the loss of the connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol, cast

from pareta_agent.clock import Clock

QUEUE_FULL_S: Final = (0.005, 0.02)


class ResponseReader(Protocol):
    """The reader of an answer. `feed` must not raise."""

    def feed(self, data: bytes) -> None: ...

    def lost(self) -> None:
        """The connection ended; no more bytes will come."""


class EngineConnection(asyncio.Protocol):
    """A single connection. Bytes go to the reader; bytes without a reader end the connection."""

    __slots__ = ("_pool", "idle_since_s", "reader", "transport")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.reader: ResponseReader | None = None
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.reader is None:
            self.transport.abort()
        else:
            self.reader.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._pool.forget(self)
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.lost()

    def send(self, request: list[bytes], reader: ResponseReader) -> None:
        self.reader = reader
        self.transport.writelines(request)

    def give_back(self) -> None:
        """Returns the connection to the pool after a complete answer."""
        self.reader = None
        self._pool.put(self)

    def abort(self) -> None:
        """Ends the request at once; the engine notices and stops the work."""
        self.reader = None
        self.transport.abort()


class ConnectionPool:
    """The idle connections to an engine's socket."""

    def __init__(self, socket: Path, clock: Clock) -> None:
        self._socket = str(socket)
        self._clock = clock
        self._idle: list[EngineConnection] = []
        self._closed = False

    def take(self) -> EngineConnection | None:
        """The most recently used idle connection, or None."""
        return self._idle.pop() if self._idle else None

    async def connect(self, timeout_s: float) -> EngineConnection:
        """A new connection; raises OSError or TimeoutError. Waits while the engine's accept queue is full."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    _, connection = await loop.create_unix_connection(
                        lambda: EngineConnection(self), self._socket
                    )
                    return connection
                except BlockingIOError:
                    await asyncio.sleep(random.uniform(*QUEUE_FULL_S))

    def put(self, connection: EngineConnection) -> None:
        if self._closed or connection.transport.is_closing():
            connection.transport.abort()
            return
        connection.idle_since_s = self._clock.mono_s()
        self._idle.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close_idle(self, before_s: float) -> None:
        """Closes connections that were returned before that moment."""
        stale = [c for c in self._idle if c.idle_since_s < before_s]
        self._idle = [c for c in self._idle if c.idle_since_s >= before_s]
        for connection in stale:
            connection.transport.abort()

    def close(self) -> None:
        self._closed = True
        self.close_idle(float("inf"))


class ConnectionPools:
    """A pool for each engine socket; pools of ended engines are closed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pools: dict[Path, ConnectionPool] = {}

    def of(self, socket: Path) -> ConnectionPool:
        pool = self._pools.get(socket)
        if pool is None:
            pool = self._pools[socket] = ConnectionPool(socket, self._clock)
        return pool

    def keep(self, sockets: Iterable[Path], idle_s: float) -> None:
        """Closes the pools of other sockets, and connections idle for longer than `idle_s`."""
        kept = set(sockets)
        for socket in [s for s in self._pools if s not in kept]:
            self._pools.pop(socket).close()
        for pool in self._pools.values():
            pool.close_idle(self._clock.mono_s() - idle_s)

    def close(self) -> None:
        self.keep((), 0.0)

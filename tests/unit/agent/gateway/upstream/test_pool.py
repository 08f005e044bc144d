"""Connections to an engine: what a busy listener does to them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import uvloop

from pareta_agent.clock import SystemClock
from pareta_agent.gateway.upstream.pool import ConnectionPool


def test_a_full_queue_of_the_engines_listener_is_waited_for(tmp_path: Path) -> None:
    """A burst of callers finds the engine busy, not gone; the wait has the deadline of any connection."""
    path = tmp_path / "engine.sock"
    callers: list[socket.socket] = []

    async def connect(listener: socket.socket) -> bool:
        pool = ConnectionPool(path, SystemClock())
        with pytest.raises(TimeoutError):
            await pool.connect(0.05)
        connecting = asyncio.create_task(pool.connect(5.0))
        for _ in callers:
            listener.accept()[0].close()
        connection = await connecting
        connection.abort()
        return True

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        full = False
        while not full:
            caller = socket.socket(socket.AF_UNIX)
            caller.setblocking(False)
            full = caller.connect_ex(str(path)) != 0
            callers.append(caller)
        callers.pop().close()
        assert uvloop.run(connect(listener))
    for caller in callers:
        caller.close()

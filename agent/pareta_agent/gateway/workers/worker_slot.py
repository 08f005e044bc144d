"""Worker slot: holds a configured worker's listeners, and the process and session while a worker runs."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent import processes
from pareta_agent.gateway.workers import worker_messages
from pareta_agent.gateway.workers.main_side import WorkerSession

GRACE_S: Final = 2.0


@dataclass(slots=True, eq=False)
class WorkerSlot:
    """`tried` is set once the first start has worked or failed; `given_up` is the reason of the last failure."""

    number: int
    listeners: list[socket.socket]
    session: WorkerSession | None = None
    process: processes.Process | None = None
    restarts: int = 0
    given_up: str | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def up(self) -> WorkerSession | None:
        return self.session if self.session is not None and self.session.up.is_set() else None

    def view(self) -> dict[str, Any]:
        """Plain values for `pareta-agent status`."""
        return {
            "pid": self.process.pid if self.process and self.session else None,
            "state": "given up" if self.given_up else "up" if self.up else "starting",
            "open": self.session.open if self.session else 0,
            "connections": self.session.connections if self.session else 0,
            "restarts": self.restarts,
        }

    def take_listener(self, listener: socket.socket) -> bool:
        """Passes a listener to the worker; False where no worker is up, or this process has no descriptor left."""
        try:
            copy = listener.dup()
        except OSError:
            return False
        with copy:
            if self.up is None:
                return False
            self.up.send(worker_messages.ListenOn(), [copy.detach()])
        self.listeners.append(listener)
        return True

    async def end(self) -> None:
        """Waits for the end of the stopped worker, for `GRACE_S`; then kills the process group."""
        if self.process is None:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                await self.process.wait()
        except TimeoutError:
            await self.process.kill_group()
        if self.session is not None:
            self.session.close()

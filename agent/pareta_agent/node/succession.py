"""How this agent hands everything over to the next one of its home, without a dropped request or a refused connection.

First the spool's file and the engines, while this one answers on and sends its records over; then, once the other one
serves, the listening socket and each connection between two requests. Until that moment all of it can be taken back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from signal import SIGKILL

from pareta_agent import launch
from pareta_agent.node.heir import Heir
from pareta_agent.node.line import Door, Line
from pareta_agent.node.loops import Loops
from pareta_agent.node.rooms import Rooms
from pareta_agent.telemetry.events import Emit, Event

HELLO_S = 5.0
TAKE_S = 20.0
SILENT_S = 30.0
KILL_S = 5.0
TICK_S = 0.5
GOODBYE_S = 5.0


class Succession:
    """`run` returns once this agent has nothing left; cancelled before, `heir` tells whether there is another one.

    `main_is` hears the pid of the agent that serves now, `alive` is called now and then while the node's loops rest.
    """

    def __init__(
        self,
        rooms: Rooms,
        working: Loops,
        reporting: Loops,
        door: Door,
        listeners: Sequence[socket.socket],
        emit: Emit,
        alive: Callable[[], None],
        main_is: Callable[[int], None],
    ) -> None:
        self._rooms, self._loops, self._door, self._emit = rooms, (working, reporting), door, emit
        self._listeners, self._alive, self._main_is = listeners, alive, main_is
        self._pump: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self.heir: Heir | None = None

    async def run(self) -> None:
        while True:
            line = await self._door.next()
            told = await _said(line, "hello", HELLO_S)
            other = launch.stat(line.peer_pid)
            if not told or other is None:
                line.close()
                continue
            trying = asyncio.create_task(self._hand_over(line, launch.Process(other.pid, other.started)))
            try:
                done = await asyncio.shield(trying)
            except asyncio.CancelledError:
                await trying  # never half-way
                raise
            if done and await self._until_it_serves():
                await self._pass_on(other.pid)
                return

    async def goodbye(self) -> None:
        """The last word to the other agent; everything that was to be told has been."""
        if self.heir is not None and not self.heir.line.closed:
            self.heir.line.send("bye", self._rooms.book.unspent())
            async with asyncio.timeout(GOODBYE_S):
                await self.heir.line.sent()
            self.heir.line.close()
        if self._pump is not None:
            self._pump.cancel()

    async def _hand_over(self, line: Line, other: launch.Process) -> bool:
        """Spool and engines; False when all of it is here again, because the other one did not come up."""
        rooms = self._rooms
        self._emit(Event("handover_begun", "info", {"pid": other.pid}))
        for loops in self._loops:
            await loops.stop()
        rooms.records.pause()
        await rooms.end_epoch()
        await asyncio.to_thread(rooms.spool.close)
        line.send("take", None, [os.dup(each.fileno()) for each in self._listeners])
        if not await _said(line, "taken", TAKE_S):
            await self._take_back(line, other)
            return False
        self.heir = heir = Heir(line, rooms.front.loads, rooms.front.in_line)
        await rooms.bequeath(heir)
        self._pump = asyncio.create_task(self._listen(heir, other))
        return True

    async def _listen(self, heir: Heir, other: launch.Process) -> None:
        """What the other one says, and to it what this one still does."""
        ticking = asyncio.create_task(self._tick(heir))
        try:
            while True:
                async with asyncio.timeout(None if self._serving.is_set() else SILENT_S):
                    message = await heir.line.receive()
                if message is None:
                    break
                if message.kind == "serving":
                    self._serving.set()
                heir.hear(message)
        except TimeoutError:
            other.signal(SIGKILL)
        finally:
            ticking.cancel()
        if self._serving.is_set():
            heir.lost()
            self._emit(Event("successor_lost", "error"))
        else:
            await self._take_back(heir.line, other)

    async def _tick(self, heir: Heir) -> None:
        while True:
            if not self._serving.is_set():
                self._alive()
            heir.tell()
            await asyncio.sleep(TICK_S)

    async def _until_it_serves(self) -> bool:
        assert self._pump is not None
        serving = asyncio.create_task(self._serving.wait())
        await asyncio.wait({serving, self._pump}, return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        if self._pump.done():
            self._pump.result()
        return self._serving.is_set()

    async def _pass_on(self, pid: int) -> None:
        assert self.heir is not None
        self._main_is(pid)
        self._emit(Event("handed_over", "info", {"pid": pid}))
        rooms = self._rooms
        await rooms.front.pass_on(self.heir.take, rooms.front.longest_s)

    async def _take_back(self, line: Line, other: launch.Process) -> None:
        """The other one is gone, or is made to be; its lock goes with it."""
        line.close()
        other.signal(SIGKILL)
        async with asyncio.timeout(KILL_S):
            await other.wait()
        heir, self.heir = self.heir, None
        await self._rooms.inherit_back(heir)
        for loops in self._loops:
            loops.start()
        self._emit(Event("handover_failed", "error", {"pid": other.pid}))


async def _said(line: Line, kind: str, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            message = await line.receive()
    except TimeoutError:
        return False
    return message is not None and message.kind == kind

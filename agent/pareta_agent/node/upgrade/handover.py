"""Handover: passes spool, engines, listening sockets and connections to the next agent of this home.

First the spool and the engines, while this agent goes on answering and sends records over. Then, once the successor
serves, the listening sockets and each connection between two requests. Until then the hand-over can be taken back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from signal import SIGKILL

from pareta_agent import processes
from pareta_agent.ipc.link import Link
from pareta_agent.ipc.message_table import TypedMessage
from pareta_agent.node.task_group import LoopGroup
from pareta_agent.node.upgrade.handover_ports import HandOverPort
from pareta_agent.node.upgrade.messages import (
    HandoverDone,
    NowServing,
    OfferListeners,
    RequestHandover,
    SpoolTaken,
    send,
)
from pareta_agent.node.upgrade.successor import Successor
from pareta_agent.node.upgrade.upgrade_socket import UpgradeListener
from pareta_agent.telemetry.events import Emit, Event

HELLO_S = 5.0
TAKE_S = 20.0
SILENT_S = 30.0
KILL_S = 5.0
TICK_S = 0.5
GOODBYE_S = 5.0


class Handover:
    """`run` returns once this agent has nothing left; after a cancellation, `successor` is set where an agent took
    over.

    `main_is` receives the pid of the agent that serves now; `alive` is called every `TICK_S` while `loops` rest.
    """

    def __init__(
        self,
        node: HandOverPort,
        loops: Sequence[LoopGroup],
        upgrades: UpgradeListener,
        listeners: Sequence[socket.socket],
        emit: Emit,
        alive: Callable[[], None],
        main_is: Callable[[int], None],
    ) -> None:
        self._node, self._loops, self._upgrades, self._emit = node, loops, upgrades, emit
        self._listeners, self._alive, self._main_is = listeners, alive, main_is
        self._pump: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self.successor: Successor | None = None

    async def run(self) -> None:
        while True:
            link = await self._upgrades.next()
            requested = await _received(link, RequestHandover, HELLO_S)
            other = processes.stat(link.peer_pid)
            if not requested or other is None:
                link.close()
                continue
            trying = asyncio.create_task(self._hand_over(link, processes.Process(other.pid, other.started)))
            try:
                done = await asyncio.shield(trying)
            except asyncio.CancelledError:
                await trying  # never half-way
                raise
            if done and await self._until_serving():
                await self._pass_on(other.pid)
                return

    async def goodbye(self) -> None:
        """Sends the last message, after all earlier messages."""
        if self.successor is not None and not self.successor.link.closed:
            send(self.successor.link, HandoverDone(self._node.unspent()))
            async with asyncio.timeout(GOODBYE_S):
                await self.successor.link.sent()
            self.successor.link.close()
        if self._pump is not None:
            self._pump.cancel()

    async def _hand_over(self, link: Link, other: processes.Process) -> bool:
        """Passes spool and engines; False when both are taken back, because the successor did not come up."""
        self._emit(Event("handover_begun", "info", {"pid": other.pid}))
        for loops in self._loops:
            await loops.stop()
        await self._node.release_spool()
        send(link, OfferListeners(), [os.dup(each.fileno()) for each in self._listeners])
        if not await _received(link, SpoolTaken, TAKE_S):
            await self._take_back(link, other)
            return False
        self.successor = successor = Successor(link, self._node.loads, self._node.waiting)
        await self._node.pass_engines(successor)
        self._pump = asyncio.create_task(self._exchange(successor, other))
        return True

    async def _exchange(self, successor: Successor, other: processes.Process) -> None:
        """Receives the successor's messages and sends the demand until the link ends."""
        ticking = asyncio.create_task(self._tick(successor))
        try:
            while True:
                async with asyncio.timeout(None if self._serving.is_set() else SILENT_S):
                    message = await successor.link.receive()
                if message is None:
                    break
                if message.kind == NowServing.kind:
                    self._serving.set()
                successor.receive(message)
        except TimeoutError:
            other.signal(SIGKILL)
        finally:
            ticking.cancel()
        if self._serving.is_set():
            successor.lost()
            self._emit(Event("successor_lost", "error"))
        else:
            await self._take_back(successor.link, other)

    async def _tick(self, successor: Successor) -> None:
        while True:
            if not self._serving.is_set():
                self._alive()
            successor.send_demand()
            await asyncio.sleep(TICK_S)

    async def _until_serving(self) -> bool:
        assert self._pump is not None
        serving = asyncio.create_task(self._serving.wait())
        await asyncio.wait({serving, self._pump}, return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        if self._pump.done():
            self._pump.result()
        return self._serving.is_set()

    async def _pass_on(self, pid: int) -> None:
        assert self.successor is not None
        self._main_is(pid)
        self._emit(Event("handed_over", "info", {"pid": pid}))
        await self._node.pass_connections(self.successor)

    async def _take_back(self, link: Link, other: processes.Process) -> None:
        """Ends the successor, whose lock ends too, and resumes serving."""
        link.close()
        other.signal(SIGKILL)
        async with asyncio.timeout(KILL_S):
            await other.wait()
        successor, self.successor = self.successor, None
        await self._node.take_back(successor)
        for loops in self._loops:
            loops.start()
        self._emit(Event("handover_failed", "error", {"pid": other.pid}))


async def _received(link: Link, expected: type[TypedMessage], timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            message = await link.receive()
    except TimeoutError:
        return False
    return message is not None and message.kind == expected.kind

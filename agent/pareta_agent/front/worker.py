"""A front process beside the main one: `python -m pareta_agent.front.worker`, with its channel as standard input.

It has callers, engines' connections and everything of a call that costs time; what must be one is the main process's,
and where that ends, so does this.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from pareta_agent.access.credit import CreditBook, GrantedLease
from pareta_agent.access.keys import KeyCache, KeySettings
from pareta_agent.clock import SystemClock
from pareta_agent.front.books import Books
from pareta_agent.front.channel import Channel
from pareta_agent.front.deps import GatewaySettings
from pareta_agent.front.front import Gateway
from pareta_agent.front.ports import GatewayDeps
from pareta_agent.front.tls import Certificate
from pareta_agent.front.tunnel import Tunnel
from pareta_agent.meter.record import Admission, UsageRecord
from pareta_agent.telemetry import sink
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.telemetry.sink_counts import SinkCounts

COUNT_S = 0.5
# What the main process says of a key it says for as long as it believes it.
_KEYS = KeySettings(negative_ttl_s=1.0, no_credit_ttl_s=1.0, offline_grace_s=0.0)


class _Elsewhere:
    """The spool and the credit of a process that has neither."""

    def can_admit(self) -> bool:
        return False

    def admit(self, admission: Admission) -> None:
        raise NotImplementedError

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        raise NotImplementedError

    async def lease(self, _org: str, _micro_usd: int) -> GrantedLease:
        return GrantedLease(0, 0.0)


class Worker:
    """`run` until the main process says so; without it the process ends at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock, self._hear, lambda: os._exit(1))
        self._books = Books(self._channel)
        self._metrics, self._clock = Metrics(), SystemClock()
        self._sinks = SinkCounts(self._metrics, sink.installed(), "worker_")
        self._keys = KeyCache(self._books.introspect, self._clock, _KEYS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._front: Gateway
        self._listeners: list[socket.socket]

    async def run(self) -> None:
        while not self._over.is_set():
            self._count()
            try:
                async with asyncio.timeout(COUNT_S):
                    await self._over.wait()
            except TimeoutError:
                continue
        await self._front.stop()
        self._count()
        await asyncio.sleep(0)

    def _hear(self, message: list[Any], descriptors: Sequence[int]) -> None:
        kind, *said = message
        socks = [socket.socket(fileno=each) for each in descriptors]
        match kind:
            case "begin":
                self._do(self._begin(said[0], socks))
            case "listen":
                self._do(self._listen(*socks))
            case "connection":
                self._front.welcome(*socks)
            case "move":
                self._do(self._move(*said))
            case "revise":
                self._keys.revise(said[0])
            case "lame_duck":
                self._front.lame_duck()
            case "reread":
                self._front.renew_certificate(force=True)
            case "scrape":
                self._count()
                self._channel.send("answer", said[0], None)
            case "drain":
                self._do(self._drain(*said))
            case "stop":
                self._over.set()
            case _:
                self._books.parse_event(kind, said)

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, brief: dict[str, Any], socks: list[socket.socket]) -> None:
        nothing = _Elsewhere()
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in brief["settings"].items()
        }
        deps = GatewayDeps(
            keys=self._keys,
            credit=CreditBook(nothing.lease, self._clock),
            spool=nothing,
            fleet_view=lambda: self._books.fleet,
            price_of=lambda _endpoint: None,
            metrics=self._metrics,
            clock=self._clock,
            emit=self._books.emit,
            secret=bytes.fromhex(brief["secret"]),
        )
        files = brief["certificate"]
        certificate = Certificate(*(Path(each) for each in files)) if files else None
        others = Tunnel(self._tunnel, lambda: self._front.leaving)
        self._front = Gateway(
            GatewaySettings(**settings), deps, certificate, client=self._books, others=others
        )
        await self._front.start()
        self._listeners = socks
        self._channel.send("up")

    async def _listen(self, *more: socket.socket) -> None:
        """On what it was given at its beginning, and on what came with the word."""
        socks, self._listeners = [*self._listeners, *more], []
        await self._front.listen(*socks)

    async def _move(self, number: int) -> None:
        self._channel.send("answer", number, await self._front.move(self._give_away))

    def _give_away(self, sock: socket.socket) -> None:
        self._channel.send("connection", descriptors=[sock.detach()])

    async def _drain(self, number: int, deadline_s: float) -> None:
        self._channel.send("answer", number, await self._front.drain(deadline_s))

    def _tunnel(self, sock: socket.socket) -> None:
        self._channel.send("tunnel", descriptors=[sock.detach()])

    def _count(self) -> None:
        self._sinks.count()
        if counted := self._metrics.take():
            self._channel.send("counted", counted)


async def _exchange() -> None:
    await Worker(socket.socket(fileno=0)).run()


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the main process hears them and says what is to be done
    sink.install()
    uvloop.run(_exchange())

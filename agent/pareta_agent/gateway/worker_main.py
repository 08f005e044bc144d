"""Gateway worker: serves callers in a separate process, `python -m pareta_agent.gateway.worker_main`.

Standard input is the channel to the main process, which keeps limits, credit, idempotency and the spool. A worker ends
with the main process.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until the loop runs: imports make little garbage and many objects to walk

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
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.gateway.downstream.tls import Certificate
from pareta_agent.gateway.gateway import Gateway
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.gateway.workers import worker_messages
from pareta_agent.gateway.workers.tunnel import Tunnel
from pareta_agent.gateway.workers.worker_side import MainProcessClient
from pareta_agent.ipc.channel import Channel
from pareta_agent.telemetry import sink
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.telemetry.sink_counts import SinkCounts

COUNT_S = 0.5
# The main process sends a key's grant with the time for which the main process's copy is valid.
_KEYS = KeySettings(negative_ttl_s=1.0, no_credit_ttl_s=1.0, offline_grace_s=0.0)


class _NoSpool:
    """Stands for the spool and the credit, which are the main process's."""

    def can_admit(self) -> bool:
        return False

    def admit(self, admission: Admission) -> None:
        raise NotImplementedError

    def finish(self, record: UsageRecord) -> asyncio.Future[None]:
        raise NotImplementedError

    async def lease(self, _org: str, _micro_usd: int) -> GrantedLease:
        return GrantedLease(0, 0.0)


class Worker:
    """`run` returns after `stop`; at the end of the channel the process exits at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock, self._receive, lambda: os._exit(1))
        self._client = MainProcessClient(self._channel)
        self._metrics, self._clock = Metrics(), SystemClock()
        self._sinks = SinkCounts(self._metrics, sink.installed(), "worker_")
        self._keys = KeyCache(self._client.introspect, self._clock, _KEYS)
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

    def _receive(self, message: list[Any], descriptors: Sequence[int]) -> None:
        """Ignores an unknown kind."""
        kind, *values = message
        socks = [socket.socket(fileno=each) for each in descriptors]
        if kind not in worker_messages.TO_WORKER.by_kind:
            return
        match decoded := worker_messages.TO_WORKER.decode(kind, values):
            case worker_messages.BeginWorker():
                self._do(self._begin(decoded, socks))
            case worker_messages.ListenOn():
                self._do(self._listen(*socks))
            case worker_messages.ServeConnection():
                self._front.welcome(*socks)
            case worker_messages.MoveConnections(number):
                self._do(self._move(number))
            case worker_messages.KeysRevised(revision):
                self._keys.revise(revision)
            case worker_messages.EnterLameDuck():
                self._front.lame_duck()
            case worker_messages.RereadCertificate():
                self._front.renew_certificate(force=True)
            case worker_messages.ReportCounts(number):
                self._count()
                worker_messages.send(self._channel, worker_messages.WorkerAnswer(number, None))
            case worker_messages.DrainRequests(number, deadline_s):
                self._do(self._drain(number, deadline_s))
            case worker_messages.StopWorker():
                self._over.set()
            case _:
                self._client.receive(decoded)

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, message: worker_messages.BeginWorker, socks: list[socket.socket]) -> None:
        nothing = _NoSpool()
        deps = GatewayDeps(
            keys=self._keys,
            credit=CreditBook(nothing.lease, self._clock),
            spool=nothing,
            fleet_view=lambda: self._client.fleet,
            price_of=lambda _endpoint: None,
            metrics=self._metrics,
            clock=self._clock,
            emit=self._client.emit,
            secret=bytes.fromhex(message.secret),
        )
        files = message.certificate
        certificate = Certificate(*(Path(each) for each in files)) if files else None
        others = Tunnel(self._tunnel, lambda: self._front.leaving)
        self._front = Gateway(message.settings, deps, certificate, client=self._client, others=others)
        await self._front.start()
        self._listeners = socks
        worker_messages.send(self._channel, worker_messages.WorkerUp())

    async def _listen(self, *more: socket.socket) -> None:
        """Listens on the sockets of `begin` and on `more`."""
        socks, self._listeners = [*self._listeners, *more], []
        await self._front.listen(*socks)

    async def _move(self, number: int) -> None:
        worker_messages.send(
            self._channel, worker_messages.WorkerAnswer(number, await self._front.move(self._return))
        )

    def _return(self, sock: socket.socket) -> None:
        worker_messages.send(self._channel, worker_messages.ConnectionReturned(), [sock.detach()])

    async def _drain(self, number: int, deadline_s: float) -> None:
        worker_messages.send(
            self._channel, worker_messages.WorkerAnswer(number, await self._front.drain(deadline_s))
        )

    def _tunnel(self, sock: socket.socket) -> None:
        worker_messages.send(self._channel, worker_messages.TunnelOpened(), [sock.detach()])

    def _count(self) -> None:
        self._sinks.count()
        if counted := self._metrics.take():
            worker_messages.send(self._channel, worker_messages.MetricsCounted(counted))


async def _run() -> None:
    await Worker(socket.socket(fileno=0)).run()


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the main process handles signals and sends commands
    sink.install()
    gc.freeze()
    gc.enable()
    uvloop.run(_run())

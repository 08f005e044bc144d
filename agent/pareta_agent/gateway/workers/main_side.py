"""Worker session: serves a worker's messages in the main process, and settles the worker's requests at the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Outcome, UsageRecord
from pareta_agent.errors import AgentError
from pareta_agent.gateway.admission.controller import AdmissionController
from pareta_agent.gateway.api.routes import INFERENCE
from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.ports import AdmittedRequest, Target
from pareta_agent.gateway.workers import worker_messages
from pareta_agent.ipc.channel import Channel
from pareta_agent.ipc.message_table import TypedMessage
from pareta_agent.telemetry.events import Event

Welcome = Callable[[socket.socket], None]


class WorkerSession:
    """Made from the main process's end of the socket pair. `ended` is called once the worker is gone and all requests
    are settled. `tunnel` is called with a connection for a request that is not inference.
    """

    def __init__(
        self,
        context: GatewayContext,
        sock: socket.socket,
        tunnel: Welcome,
        ended: Callable[[], None],
    ) -> None:
        self._context, self._ended = context, ended
        self._channel = Channel(sock, self._receive, self._lost)
        self._waiting: dict[str, WorkerApplicant] = {}
        self._open: dict[str, AdmittedRequest] = {}
        self._connections: dict[int, str] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._shown: FleetView | None = None
        self._quarantine_active = False
        self.up = asyncio.Event()
        self._handlers: dict[type[TypedMessage], Callable[..., None]] = {
            worker_messages.ApplyForAdmission: self._apply,
            worker_messages.WithdrawApplication: self._withdraw,
            worker_messages.SettleRequest: self._settle,
            worker_messages.RequestMoved: self._moved,
            worker_messages.EngineLost: self._engine_lost,
            worker_messages.LookUpKey: self._key,
            worker_messages.ConnectionOpened: self._opened,
            worker_messages.ConnectionClosed: self._closed,
            worker_messages.MetricsCounted: lambda counted: context.deps.metrics.add(counted.taken),
            worker_messages.EventEmitted: lambda it: self.emit(Event(it.name, it.level, it.fields)),
            worker_messages.WorkerAnswer: self._answered,
            worker_messages.TunnelOpened: lambda _, sock: tunnel(sock),
            worker_messages.ConnectionReturned: self._pass_on,
            worker_messages.WorkerUp: lambda _: self.up.set(),
        }

    @property
    def open(self) -> int:
        """The worker's requests that wait for admission or are admitted and not settled yet."""
        return len(self._open) + len(self._waiting)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def send(self, message: TypedMessage, descriptors: Sequence[int] = ()) -> None:
        worker_messages.send(self._channel, message, descriptors)

    async def request(self, command: Callable[..., TypedMessage], *values: float, deadline_s: float) -> Any:
        """The worker's answer to a numbered command; None where the worker is gone or misses the deadline."""
        self._requests += 1
        number, answer = self._requests, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self.send(command(number, *values))
        if self._channel.closed:
            return None
        try:
            async with asyncio.timeout(deadline_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._answers.pop(number, None)

    def show(self, fleet: FleetView) -> None:
        """Sends the fleet and the state of the quarantine after a change of either."""
        known = FleetView(dict(fleet.endpoints), fleet.complete)
        if known != self._shown:
            self._shown = known
            self.send(worker_messages.FleetChanged(fleet))
        if self._context.admission.quarantine.active != self._quarantine_active:
            self._quarantine_active = self._context.admission.quarantine.active
            self.send(worker_messages.QuarantineActive(self._quarantine_active))

    def close(self) -> None:
        """Settles the worker's requests without waiting for the worker's end."""
        if not self._channel.closed:
            self._channel.close()
            self._lost()

    # messages of the worker

    def _receive(self, message: list[Any], descriptors: Sequence[int]) -> None:
        """Raises KeyError for an unknown kind."""
        kind, *values = message
        decoded = worker_messages.TO_MAIN.decode(kind, values)
        socks = [socket.socket(fileno=each) for each in descriptors]
        self._handlers[type(decoded)](decoded, *socks)

    def _pass_on(self, _: worker_messages.ConnectionReturned, sock: socket.socket) -> None:
        assert self._context.successor is not None
        self._context.successor(sock)

    def _withdraw(self, message: worker_messages.WithdrawApplication) -> None:
        if (applicant := self._waiting.pop(message.request_id, None)) is not None:
            applicant.application.withdraw()

    def _engine_lost(self, message: worker_messages.EngineLost) -> None:
        self._context.admission.quarantine.note(
            message.replica, message.generation, bytes.fromhex(message.fingerprint)
        )

    def _key(self, message: worker_messages.LookUpKey) -> None:
        task = asyncio.get_running_loop().create_task(self._look_up(message.number, message.digest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _opened(self, message: worker_messages.ConnectionOpened) -> None:
        self._connections[message.connection] = message.host
        if reason := self._context.connections.enter(message.host):
            self.send(worker_messages.ConnectionRefused(message.connection, reason))

    def _closed(self, message: worker_messages.ConnectionClosed) -> None:
        self._context.connections.leave(self._connections.pop(message.connection))

    def _answered(self, message: worker_messages.WorkerAnswer) -> None:
        if (answer := self._answers.get(message.number)) is not None and not answer.done():
            answer.set_result(message.result)

    def _apply(self, message: worker_messages.ApplyForAdmission) -> None:
        route = INFERENCE[b"POST", message.path.encode()]
        applicant = WorkerApplicant(self, message.request_id)
        request = message.request.request(route.prompt)
        applicant.application = AdmissionController(
            self._context.admission, applicant, route, message.grant, request, message.once
        )
        self._waiting[message.request_id] = applicant
        applicant.application.proceed()

    def decide(self, request_id: str, message: TypedMessage) -> None:
        """Sends the decision on an application."""
        self._waiting.pop(request_id, None)
        self.send(message)

    def admitted(self, applicant: WorkerApplicant, admitted: AdmittedRequest) -> None:
        self._open[applicant.id] = admitted
        self.show(self._context.deps.fleet_view())
        replica, headers = admitted.target.replica, applicant.headers
        self.decide(
            applicant.id,
            worker_messages.RequestAdmitted(admitted.admission, replica.name, replica.generation, headers),
        )

    def emit(self, event: Event) -> None:
        self._context.deps.emit(event)

    def _settle(self, message: worker_messages.SettleRequest) -> None:
        request_id, document = message.request_id, message.document
        admitted = self._open.pop(request_id)
        answer = None if document is None else document.encode()
        record = message.record.record(admitted.admission)
        saved = admitted.settle(record, message.status, message.refused, answer)
        saved.add_done_callback(
            lambda saved: self.send(
                worker_messages.RecordSaved(request_id, not saved.cancelled() and saved.exception() is None)
            )
        )

    def _moved(self, message: worker_messages.RequestMoved) -> None:
        admitted = self._open[message.request_id]
        endpoint = admitted.target.endpoint
        now = self._context.deps.fleet_view().endpoints.get(endpoint.id, endpoint)
        for each in (*now.replicas, *endpoint.replicas):
            if (each.name, each.generation) == (message.replica, message.generation):
                admitted.moved(Target(endpoint, each))
                return

    async def _look_up(self, number: int, digest: str) -> None:
        keys = self._context.deps.keys
        try:
            grant, left_s = await keys.lookup(bytes.fromhex(digest))
        except AgentError:
            self.send(worker_messages.KeyFound(number, False, None))
            return
        found = None if grant is None else replace(grant, ttl_s=max(1.0, left_s))
        self.send(worker_messages.KeyFound(number, True, found))

    def _lost(self) -> None:
        """Settles open requests as a crash, withdraws waiting requests, and forgets the worker's connections."""
        for applicant in self._waiting.values():
            applicant.application.withdraw()
        for admitted in self._open.values():
            admitted.settle(UsageRecord(admitted.admission, Outcome.AGENT_CRASH, "none"), 499, False, None)
        for host in self._connections.values():
            self._context.connections.leave(host)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        for held in (self._waiting, self._open, self._connections, self._answers):
            held.clear()
        self._ended()


@dataclass(slots=True, eq=False)
class WorkerApplicant:
    """A worker's request that waits for admission."""

    session: WorkerSession
    id: str
    endpoint: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    application: AdmissionController = field(init=False)

    def admitted(self, admitted: AdmittedRequest) -> None:
        self.session.admitted(self, admitted)

    def replay(self, request_id: str, document: bytes) -> None:
        self.session.decide(
            self.id, worker_messages.ReplayAnswer(self.id, request_id, document.decode(), self.endpoint)
        )

    def refuse(self, problem: Problem) -> None:
        self.session.decide(
            self.id, worker_messages.RequestRefused(self.id, problem, self.endpoint, self.headers)
        )

    def crashed(self, error: Exception) -> None:
        fields = {"request_id": self.id, "error": repr(error)}
        self.session.emit(Event("request_crashed", "error", fields))
        self.refuse(Problem("internal"))

    def send_keepalive(self) -> None:
        self.session.send(worker_messages.SendKeepalive(self.id))

    def add_headers(self, headers: dict[str, str]) -> None:
        self.headers |= headers

"""One worker as the main process sees it: what it asks for, what it holds, and what becomes of that at its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pareta_agent.engine.view import FleetView
from pareta_agent.errors import AgentError
from pareta_agent.front import told
from pareta_agent.front.application import AdmissionController
from pareta_agent.front.channel import Channel
from pareta_agent.front.desk import GatewayContext
from pareta_agent.front.envelope import Problem
from pareta_agent.front.ports import AdmittedRequest, IdempotencyKey, Target
from pareta_agent.front.routes import INFERENCE
from pareta_agent.meter.record import Outcome, UsageRecord
from pareta_agent.telemetry.events import Event

Welcome = Callable[[socket.socket], None]


class Hand:
    """Made of the channel's end. `ended` is called once the worker is gone and what it held is settled.

    `tunnel` is given a connection for a request that is not inference.
    """

    def __init__(
        self,
        context: GatewayContext,
        sock: socket.socket,
        tunnel: Welcome,
        ended: Callable[[], None],
    ) -> None:
        self._context, self._ended = context, ended
        self._channel = Channel(sock, self._hear, self._lost)
        self._waiting: dict[str, Applied] = {}
        self._open: dict[str, AdmittedRequest] = {}
        self._connections: dict[int, str] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = 0
        self._shown: FleetView | None = None
        self._wary = False
        self.up = asyncio.Event()
        self._heard: dict[str, Callable[..., None]] = {
            "apply": self._apply,
            "withdraw": self._withdraw,
            "settle": self._settle,
            "moved": self._moved,
            "lost": self._lost_engine,
            "key": self._key,
            "enter": self._enter,
            "leave": self._leave,
            "counted": context.deps.metrics.add,
            "event": self._event,
            "answer": self._answer,
            "tunnel": tunnel,
            "connection": self._connection,
            "up": self.up.set,
        }

    @property
    def open(self) -> int:
        """Calls that were admitted there and are not recorded yet, or wait to be admitted."""
        return len(self._open) + len(self._waiting)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def say(self, *message: Any, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(*message, descriptors=descriptors)

    async def ask(self, kind: str, *said: Any, deadline_s: float) -> Any:
        """The worker's answer; None when it is gone or silent."""
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._channel.send(kind, number, *said)
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
        """Tells the worker what it does not know yet."""
        known = FleetView(dict(fleet.endpoints), fleet.complete)
        if known != self._shown:
            self._shown = known
            self._channel.send("fleet", fleet)
        if self._context.admission.quarantine.active != self._wary:
            self._wary = self._context.admission.quarantine.active
            self._channel.send("wary", self._wary)

    def close(self) -> None:
        """Without waiting for its end."""
        if not self._channel.closed:
            self._channel.close()
            self._lost()

    # what the worker says

    def _hear(self, message: list[Any], descriptors: Sequence[int]) -> None:
        kind, *said = message
        self._heard[kind](*said, *(socket.socket(fileno=each) for each in descriptors))

    def _connection(self, sock: socket.socket) -> None:
        assert self._context.successor is not None
        self._context.successor(sock)

    def _withdraw(self, request_id: str) -> None:
        if (applied := self._waiting.pop(request_id, None)) is not None:
            applied.application.withdraw()

    def _lost_engine(self, replica: str, generation: int, mark: str) -> None:
        self._context.admission.quarantine.note(replica, generation, bytes.fromhex(mark))

    def _key(self, number: int, digest: str) -> None:
        task = asyncio.get_running_loop().create_task(self._look_up(number, digest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _enter(self, connection: int, host: str) -> None:
        self._connections[connection] = host
        if reason := self._context.connections.enter(host):
            self._channel.send("crowded", connection, reason)

    def _leave(self, connection: int) -> None:
        self._context.connections.leave(self._connections.pop(connection))

    def _event(self, name: str, level: Any, fields: dict[str, Any]) -> None:
        self.emit(Event(name, level, fields))

    def _answer(self, number: int, told: Any) -> None:
        if (answer := self._answers.get(number)) is not None and not answer.done():
            answer.set_result(told)

    def _apply(
        self, request_id: str, path: str, grant: list[Any], ask: list[Any], idempotency_key: list[str] | None
    ) -> None:
        route = INFERENCE[b"POST", path.encode()]
        applied = Applied(self, request_id)
        wanted = (
            None
            if idempotency_key is None
            else IdempotencyKey(idempotency_key[0], bytes.fromhex(idempotency_key[1]))
        )
        asked = told.ask_in(ask, route.prompt)
        applied.application = AdmissionController(
            self._context.admission, applied, route, told.grant_in(grant), asked, wanted
        )
        self._waiting[request_id] = applied
        applied.application.proceed()

    def verdict(self, request_id: str, *message: Any) -> None:
        self._waiting.pop(request_id, None)
        self._channel.send(*message)

    def admitted(self, applied: Applied, admitted: AdmittedRequest) -> None:
        self._open[applied.id] = admitted
        self.show(self._context.deps.fleet_view())
        replica = admitted.target.replica
        self.verdict(
            applied.id, "admitted", admitted.admission, replica.name, replica.generation, applied.headers
        )

    def send_keepalive(self, request_id: str) -> None:
        self._channel.send("comfort", request_id)

    def emit(self, event: Event) -> None:
        self._context.deps.emit(event)

    def _settle(
        self, request_id: str, record: list[Any], status: int, refused: bool, document: str | None
    ) -> None:
        admitted = self._open.pop(request_id)
        kept = None if document is None else document.encode()
        saved = admitted.settle(told.record_in(admitted.admission, record), status, refused, kept)
        saved.add_done_callback(
            lambda saved: self._channel.send(
                "saved", request_id, not saved.cancelled() and saved.exception() is None
            )
        )

    def _moved(self, request_id: str, replica: str, generation: int) -> None:
        admitted = self._open[request_id]
        endpoint = admitted.target.endpoint
        now = self._context.deps.fleet_view().endpoints.get(endpoint.id, endpoint)
        for each in (*now.replicas, *endpoint.replicas):
            if (each.name, each.generation) == (replica, generation):
                admitted.moved(Target(endpoint, each))
                return

    async def _look_up(self, number: int, digest: str) -> None:
        keys = self._context.deps.keys
        try:
            grant, left_s = await keys.lookup(bytes.fromhex(digest))
        except AgentError:
            self._channel.send("key", number, False, None)
            return
        found = None
        if grant is not None:
            found = told.grant_out(grant)
            found[4] = max(1.0, left_s)
        self._channel.send("key", number, True, found)

    def _lost(self) -> None:
        """What it had open ends as a crash; what it waited for nobody waits for; its callers are gone."""
        for applied in self._waiting.values():
            applied.application.withdraw()
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
class Applied:
    """A call of a worker that wants to be let in."""

    hand: Hand
    id: str
    endpoint: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    application: AdmissionController = field(init=False)

    def admitted(self, admitted: AdmittedRequest) -> None:
        self.hand.admitted(self, admitted)

    def replay(self, request_id: str, document: bytes) -> None:
        self.hand.verdict(self.id, "replay", self.id, request_id, document.decode(), self.endpoint)

    def refuse(self, problem: Problem) -> None:
        refused = told.problem_out(problem)
        self.hand.verdict(self.id, "refused", self.id, refused, self.endpoint, self.headers)

    def crashed(self, error: Exception) -> None:
        fields = {"request_id": self.id, "error": repr(error)}
        self.hand.emit(Event("request_crashed", "error", fields))
        self.refuse(Problem("internal"))

    def send_keepalive(self) -> None:
        self.hand.send_keepalive(self.id)

    def add_headers(self, headers: dict[str, str]) -> None:
        self.headers |= headers

"""The main process as a worker sees it: it has the books, this process has the callers.

A call costs it two messages each way (its application and verdict, its record and that it is durable), none a chunk.
Where the main process ends, so does the worker: nobody would meter.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent.access.grant import KeyGrant
from pareta_agent.engine.view import FleetView
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.front import told
from pareta_agent.front.body import InferenceRequest
from pareta_agent.front.channel import Channel
from pareta_agent.front.envelope import Problem
from pareta_agent.front.poison import fingerprint_of
from pareta_agent.front.ports import Applicant, IdempotencyKey, LimitedConnection, Target
from pareta_agent.front.routes import Route
from pareta_agent.meter.record import Admission, Outcome, UsageRecord
from pareta_agent.telemetry.events import Event, Phase

KEY_S: Final = 10.0


@dataclass(slots=True)
class Books:
    """`hear` is given every message of the channel that is about calls, keys or the fleet."""

    channel: Channel
    fleet: FleetView = field(default_factory=lambda: FleetView(complete=False))
    wary: bool = False
    _connections: dict[LimitedConnection, int] = field(default_factory=dict)
    _by_number: dict[int, LimitedConnection] = field(default_factory=dict)
    _applicants: dict[str, Applicant] = field(default_factory=dict)
    _saving: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _keys: dict[int, asyncio.Future[list[Any] | None]] = field(default_factory=dict)
    _asked: int = 0

    def apply(
        self,
        applicant: Applicant,
        route: Route,
        grant: KeyGrant,
        request: InferenceRequest,
        idempotency_key: IdempotencyKey | None,
    ) -> Asked:
        """Sends an application; its verdict comes later."""
        endpoint = self.fleet.endpoints.get(request.model)
        mark = fingerprint_of(endpoint, request) if self.wary and endpoint is not None else None
        several = endpoint is not None and len(endpoint.replicas) > 1
        self._applicants[applicant.id] = applicant
        self.channel.send(
            "apply",
            applicant.id,
            route.path,
            told.grant_out(grant),
            told.ask_out(request, route.prompt, several, mark),
            None if idempotency_key is None else [idempotency_key.name, idempotency_key.digest.hex()],
        )
        return Asked(self, applicant.id)

    def connection_opened(self, connection: LimitedConnection, host: str) -> None:
        self._asked += 1
        self._connections[connection], self._by_number[self._asked] = self._asked, connection
        self.channel.send("enter", self._asked, host)

    def connection_closed(self, connection: LimitedConnection) -> None:
        number = self._connections.pop(connection)
        del self._by_number[number]
        self.channel.send("leave", number)

    def withdraw(self, request_id: str) -> None:
        if self._applicants.pop(request_id, None) is not None:
            self.channel.send("withdraw", request_id)

    async def introspect(self, digest: str) -> KeyGrant | None:
        """What the main process knows of a key, for as long as it does. Raises PlaneError where it knows nothing."""
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._keys[number] = answer
        self.channel.send("key", number, digest)
        try:
            async with asyncio.timeout(KEY_S):
                found = await answer
        except TimeoutError:
            raise PlaneError("plane_slow", "nobody said whose key this is in time") from None
        finally:
            self._keys.pop(number, None)
        return None if found is None else told.grant_in(found)

    def emit(self, event: Event | Phase) -> None:
        """Certificates are told of by the main process, which reads them too."""
        if isinstance(event, Event) and not event.name.startswith(("certificate_", "front_stopped")):
            self.channel.send("event", event.name, event.level, dict(event.fields))

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._saving[record.admission.request_id] = saved
        kept = None if document is None else document.decode()
        self.channel.send(
            "settle", record.admission.request_id, told.record_out(record), status, refused, kept
        )
        return saved

    def parse_event(self, kind: str, said: list[Any]) -> None:
        match kind:
            case "admitted":
                self._admitted(*said)
            case "refused":
                self._refused(*said)
            case "replay":
                self._replay(*said)
            case "comfort":
                if (applicant := self._applicants.get(said[0])) is not None:
                    applicant.send_keepalive()
            case "saved":
                self._saved(*said)
            case "key":
                self._key(*said)
            case "fleet":
                self.fleet = told.FLEET.validate_python(said[0])
            case "wary":
                self.wary = said[0]
            case "crowded":
                self._crowded(*said)

    def _refused(
        self, request_id: str, problem: dict[str, Any], endpoint: str, headers: dict[str, str]
    ) -> None:
        if (applicant := self._verdict(request_id)) is not None:
            applicant.endpoint = endpoint
            applicant.add_headers(headers)
            applicant.refuse(told.problem_in(problem))

    def _replay(self, request_id: str, original: str, document: str, endpoint: str) -> None:
        if (applicant := self._verdict(request_id)) is not None:
            applicant.endpoint = endpoint
            applicant.replay(original, document.encode())

    def _key(self, number: int, good: bool, found: list[Any] | None) -> None:
        answer = self._keys.get(number)
        if answer is None or answer.done():
            return
        if good:
            answer.set_result(found)
        else:
            answer.set_exception(PlaneError("plane_away", "nobody can say whose key this is"))

    def _crowded(self, number: int, reason: str) -> None:
        if (connection := self._by_number.get(number)) is not None:
            connection.refuse(reason, Problem("too_many_requests"))

    def _verdict(self, request_id: str) -> Applicant | None:
        return self._applicants.pop(request_id, None)

    def _admitted(self, row: dict[str, Any], replica: str, generation: int, headers: dict[str, str]) -> None:
        admission = Admission(**row)
        applicant = self._verdict(admission.request_id)
        target = self._target(admission.endpoint, replica, generation)
        if applicant is None or target is None:  # it left while it was let in, or its replica did
            outcome = Outcome.PARTIAL_CLIENT if applicant is None else Outcome.FAILED_ENGINE
            self.settle(UsageRecord(admission, outcome, "none"), 499, False, None)
            if applicant is not None:
                applicant.refuse(Problem("engine_unreachable"))
            return
        applicant.endpoint = admission.endpoint
        applicant.add_headers(headers)
        try:
            applicant.admitted(Remote(self, admission, target))
        except Exception as error:
            applicant.crashed(error)

    def _target(self, endpoint: str, replica: str, generation: int) -> Target | None:
        found = self.fleet.endpoints.get(endpoint)
        for each in found.replicas if found is not None else ():
            if (each.name, each.generation) == (replica, generation):
                assert found is not None
                return Target(found, each)
        return None

    def _saved(self, request_id: str, good: bool) -> None:
        saved = self._saving.pop(request_id)
        if good:
            saved.set_result(None)
        else:
            saved.set_exception(HostError("spool_failed", "the record was not written", "see the node's log"))
            saved.exception()  # whoever waits looks again


@dataclass(slots=True)
class Asked:
    """An application at the main process."""

    books: Books
    request_id: str

    def withdraw(self) -> None:
        self.books.withdraw(self.request_id)


@dataclass(slots=True)
class Remote:
    """A ticket whose books are the main process's."""

    books: Books
    admission: Admission
    target: Target

    def lost(self, target: Target, request: InferenceRequest) -> None:
        mark = fingerprint_of(target.endpoint, request)
        self.books.channel.send("lost", target.replica.name, target.replica.generation, mark.hex())

    def moved(self, target: Target) -> None:
        self.target = target
        self.books.channel.send(
            "moved", self.admission.request_id, target.replica.name, target.replica.generation
        )

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        return self.books.settle(record, status, refused, document)

"""Main process client: sends a worker's applications and usage records to the main process and receives the results.

A request costs two messages each way (application and decision, record and confirmation) and none a chunk. A worker
ends with the main process, which meters.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.contract.usage_record import Admission, Outcome, UsageRecord
from pareta_agent.errors import HostError, PlaneError
from pareta_agent.gateway.admission.quarantine import fingerprint_of
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.ports import Applicant, IdempotencyKey, LimitedConnection, Target
from pareta_agent.gateway.workers import worker_messages
from pareta_agent.gateway.workers.worker_values import RequestSummary, TerminalRecord
from pareta_agent.ipc.channel import Channel
from pareta_agent.telemetry.events import Event, Phase

KEY_S: Final = 10.0


@dataclass(slots=True)
class MainProcessClient:
    """`receive` takes every message about requests, keys, connections and the fleet."""

    channel: Channel
    fleet: FleetView = field(default_factory=lambda: FleetView(complete=False))
    quarantine_active: bool = False
    _connections: dict[LimitedConnection, int] = field(default_factory=dict)
    _by_number: dict[int, LimitedConnection] = field(default_factory=dict)
    _applicants: dict[str, Applicant] = field(default_factory=dict)
    _saving: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _keys: dict[int, asyncio.Future[KeyGrant | None]] = field(default_factory=dict)
    _numbers: int = 0

    def apply(
        self,
        applicant: Applicant,
        route: Route,
        grant: KeyGrant,
        request: InferenceRequest,
        idempotency_key: IdempotencyKey | None,
    ) -> SentApplication:
        """Sends an application; the decision arrives later."""
        endpoint = self.fleet.endpoints.get(request.model)
        fingerprint = (
            fingerprint_of(endpoint, request) if self.quarantine_active and endpoint is not None else None
        )
        several = endpoint is not None and len(endpoint.replicas) > 1
        self._applicants[applicant.id] = applicant
        summary = RequestSummary.of(request, route.prompt, several, fingerprint)
        worker_messages.send(
            self.channel,
            worker_messages.ApplyForAdmission(applicant.id, route.path, grant, summary, idempotency_key),
        )
        return SentApplication(self, applicant.id)

    def connection_opened(self, connection: LimitedConnection, host: str) -> None:
        self._numbers += 1
        self._connections[connection], self._by_number[self._numbers] = self._numbers, connection
        worker_messages.send(self.channel, worker_messages.ConnectionOpened(self._numbers, host))

    def connection_closed(self, connection: LimitedConnection) -> None:
        number = self._connections.pop(connection)
        del self._by_number[number]
        worker_messages.send(self.channel, worker_messages.ConnectionClosed(number))

    def withdraw(self, request_id: str) -> None:
        if self._applicants.pop(request_id, None) is not None:
            worker_messages.send(self.channel, worker_messages.WithdrawApplication(request_id))

    async def introspect(self, digest: str) -> KeyGrant | None:
        """The grant of a key, valid as long as the main process's own. Raises PlaneError where the plane is away."""
        self._numbers += 1
        number = self._numbers
        answer: asyncio.Future[KeyGrant | None] = asyncio.get_running_loop().create_future()
        self._keys[number] = answer
        worker_messages.send(self.channel, worker_messages.LookUpKey(number, digest))
        try:
            async with asyncio.timeout(KEY_S):
                return await answer
        except TimeoutError:
            raise PlaneError("plane_slow", "nobody said whose key this is in time") from None
        finally:
            self._keys.pop(number, None)

    def emit(self, event: Event | Phase) -> None:
        """The main process emits the events of certificates, which the main process reads too."""
        if isinstance(event, Event) and not event.name.startswith(("certificate_", "front_stopped")):
            worker_messages.send(
                self.channel, worker_messages.EventEmitted(event.name, event.level, dict(event.fields))
            )

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request_id = record.admission.request_id
        self._saving[request_id] = saved
        answer = None if document is None else document.decode()
        values = TerminalRecord.of(record)
        worker_messages.send(
            self.channel, worker_messages.SettleRequest(request_id, values, status, refused, answer)
        )
        return saved

    def receive(self, message: Any) -> None:
        match message:
            case worker_messages.RequestAdmitted():
                self._admitted(message)
            case worker_messages.RecordSaved(request_id, saved):
                self._saved(request_id, saved)
            case worker_messages.RequestRefused():
                self._refused(message)
            case worker_messages.ReplayAnswer():
                self._replay(message)
            case worker_messages.SendKeepalive(request_id):
                if (applicant := self._applicants.get(request_id)) is not None:
                    applicant.send_keepalive()
            case worker_messages.KeyFound():
                self._found(message)
            case worker_messages.FleetChanged(fleet):
                self.fleet = fleet
            case worker_messages.QuarantineActive(active):
                self.quarantine_active = active
            case worker_messages.ConnectionRefused(connection, reason):
                self._over_limit(connection, reason)

    def _refused(self, message: worker_messages.RequestRefused) -> None:
        if (applicant := self._decided(message.request_id)) is not None:
            applicant.endpoint = message.endpoint
            applicant.add_headers(message.headers)
            applicant.refuse(message.problem)

    def _replay(self, message: worker_messages.ReplayAnswer) -> None:
        if (applicant := self._decided(message.request_id)) is not None:
            applicant.endpoint = message.endpoint
            applicant.replay(message.original, message.document.encode())

    def _found(self, message: worker_messages.KeyFound) -> None:
        answer = self._keys.get(message.number)
        if answer is None or answer.done():
            return
        if message.known:
            answer.set_result(message.grant)
        else:
            answer.set_exception(PlaneError("plane_away", "nobody can say whose key this is"))

    def _over_limit(self, number: int, reason: str) -> None:
        if (connection := self._by_number.get(number)) is not None:
            connection.refuse(reason, Problem("too_many_requests"))

    def _decided(self, request_id: str) -> Applicant | None:
        return self._applicants.pop(request_id, None)

    def _admitted(self, message: worker_messages.RequestAdmitted) -> None:
        admission = message.admission
        applicant = self._decided(admission.request_id)
        target = self._target(admission.endpoint, message.replica, message.generation)
        if applicant is None or target is None:  # the caller left during the admission, or the replica did
            outcome = Outcome.PARTIAL_CLIENT if applicant is None else Outcome.FAILED_ENGINE
            self.settle(UsageRecord(admission, outcome, "none"), 499, False, None)
            if applicant is not None:
                applicant.refuse(Problem("engine_unreachable"))
            return
        applicant.endpoint = admission.endpoint
        applicant.add_headers(message.headers)
        try:
            applicant.admitted(RemoteAdmission(self, admission, target))
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
            saved.exception()  # retrieved here, so that asyncio does not report the error


@dataclass(slots=True)
class SentApplication:
    """An application at the main process."""

    client: MainProcessClient
    request_id: str

    def withdraw(self) -> None:
        self.client.withdraw(self.request_id)


@dataclass(slots=True)
class RemoteAdmission:
    """An admitted request with limits, credit and record in the main process."""

    client: MainProcessClient
    admission: Admission
    target: Target

    def lost(self, target: Target, request: InferenceRequest) -> None:
        fingerprint = fingerprint_of(target.endpoint, request).hex()
        replica = target.replica
        worker_messages.send(
            self.client.channel, worker_messages.EngineLost(replica.name, replica.generation, fingerprint)
        )

    def moved(self, target: Target) -> None:
        self.target = target
        replica = target.replica
        worker_messages.send(
            self.client.channel,
            worker_messages.RequestMoved(self.admission.request_id, replica.name, replica.generation),
        )

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        return self.client.settle(record, status, refused, document)

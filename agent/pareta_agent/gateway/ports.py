"""Gateway ports: the protocols and values by which admission, downstream and the worker processes meet.

Each layer above imports the ports and no other layer's classes, so that an admitted request may live in another
process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pareta_agent.access.credit import CreditBook
from pareta_agent.access.keys import KeyCache
from pareta_agent.clock import Clock
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView, FleetView, ReplicaView
from pareta_agent.contract.grant import KeyGrant, TokenPrice
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.api.routes import Route
from pareta_agent.meter.audit import Audit
from pareta_agent.telemetry.events import Emit
from pareta_agent.telemetry.metrics import Metrics
from pareta_agent.value import value


class UsageSpool(Protocol):
    """The meter's spool; benchmarks and durability tests pass substitutes."""

    def can_admit(self) -> bool: ...

    def admit(self, admission: Admission) -> None: ...

    def finish(self, record: UsageRecord) -> asyncio.Future[None]: ...


@dataclass(frozen=True, slots=True)
class GatewayDeps:
    """Dependencies of the gateway. `price_of` returns None for an endpoint with free calls.

    - `plane_url`: address of the embedded plane, which serves the public API; None where the plane is hosted.
    - `wake`: requests the start of a cold endpoint; no effect on any other.
    - `audit`: receives the end of each request.
    - `secret`: separates the orgs' prefix caches; shared by all processes of a node.
    """

    keys: KeyCache
    credit: CreditBook
    spool: UsageSpool
    fleet_view: Callable[[], FleetView]
    price_of: Callable[[str], TokenPrice | None]
    metrics: Metrics
    clock: Clock
    emit: Emit
    plane_url: str | None = None
    wake: Callable[[str], None] = lambda _endpoint: None
    audit: Audit = field(default_factory=Audit)
    secret: bytes = field(default_factory=lambda: os.urandom(32))


@value
class Target:
    """The replica that receives a request, and the endpoint."""

    endpoint: EndpointView
    replica: ReplicaView

    def renamed(self, answer: bytes) -> bytes:
        """`answer` with the requested model name, where a shared engine names the base's own weights.

        `answer` is whole JSON: the keys cannot stand in generated text, where quotes are escaped.
        """
        name, requested = self.endpoint.served_as, self.endpoint.id
        if name is None:
            return answer
        return answer.replace(b'"model":"%b"' % name.encode(), b'"model":"%b"' % requested.encode())


class AdmittedRequest(Protocol):
    """An admitted request, held by the exchange. `target` is the replica that admission selected."""

    admission: Admission
    target: Target

    def lost(self, target: Target, request: InferenceRequest) -> None:
        """The engine's connection ended while the engine worked on the request."""

    def moved(self, target: Target) -> None:
        """The request continues at another replica."""

    def settle(
        self, record: UsageRecord, status: int, refused: bool, document: bytes | None
    ) -> asyncio.Future[None]:
        """Closes the admission; the future completes when the record is durable.

        - `status`: the caller's HTTP status, 499 if the caller has left.
        - `refused`: the engine refused the request before any work.
        - `document`: the answer that a repeated request with the same idempotency key receives.
        """


class Applicant(Protocol):
    """A request to be admitted.

    Receives exactly one of `admitted`, `replay`, `refuse` and `crashed`, unless withdrawn before. `endpoint` is set to
    the id of the requested endpoint, for counts of refusals.
    """

    id: str
    endpoint: str

    def admitted(self, admitted: AdmittedRequest) -> None: ...

    def replay(self, request_id: str, document: bytes) -> None: ...

    def refuse(self, problem: Problem) -> None: ...

    def crashed(self, error: Exception) -> None: ...

    def send_keepalive(self) -> None: ...

    def add_headers(self, headers: dict[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The caller's idempotency key, and the digest of the body with that key."""

    name: str
    digest: bytes


class Pending(Protocol):
    """A request in admission; `withdraw` once the applicant has ended."""

    def withdraw(self) -> None: ...


class Apply(Protocol):
    """Starts the admission of a request, here or in the main process; an immediate result arrives before the return."""

    def __call__(
        self,
        applicant: Applicant,
        route: Route,
        grant: KeyGrant,
        request: InferenceRequest,
        idempotency_key: IdempotencyKey | None,
    ) -> Pending: ...


class GatewayCaller(Protocol):
    """The downstream side of an exchange; a single `finish_` call ends the exchange, even after the caller left."""

    id: str
    client_request_id: str
    route: Route
    disconnected: bool

    def stream_gave(self, payload: bytes) -> None: ...

    def verbatim(self) -> Callable[[bytes], None] | None: ...

    def hang_up(self) -> None: ...

    def finish_stream(self, last: bytes) -> None: ...

    def finish_document(self, document: bytes) -> None: ...

    def finish_badly(self, problem: Problem, events: int) -> None: ...


class OpenRequest(Protocol):
    """An open request, for deadlines and drains."""

    def tick(self, now_s: float) -> None:
        """Ends the request if overdue."""

    def is_last(self) -> None:
        """Closes the connection after this answer, unless the answer's head has left."""

    def cut(self) -> None:
        """Ends the request now: the drain's deadline has passed."""


class LimitedConnection(Protocol):
    """A connection that the connection limits may refuse."""

    def refuse(self, reason: str, problem: Problem) -> None: ...


class ConnectionObserver(Protocol):
    """Counts connections in another process."""

    def connection_opened(self, connection: LimitedConnection, host: str) -> None: ...

    def connection_closed(self, connection: LimitedConnection) -> None: ...

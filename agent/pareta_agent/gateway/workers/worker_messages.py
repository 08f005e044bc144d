"""Worker messages: every kind between the main process and the gateway workers, with all fields in wire order.

`docs/internals/worker-protocol.md` lists the kinds in order. A main process and a worker may come from two releases:
no kind and no field changes place or JSON form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from pydantic import TypeAdapter

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.contract.usage_record import Admission
from pareta_agent.gateway.ports import IdempotencyKey
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.gateway.workers.worker_values import (
    RequestSummary,
    TerminalRecord,
    decode_grant,
    encode_grant,
)
from pareta_agent.ipc.channel import Channel
from pareta_agent.ipc.message_table import MessageTable, TypedMessage, values_of

_FLEET: Final = TypeAdapter(FleetView)


def send(channel: Channel, message: TypedMessage, descriptors: Sequence[int] = ()) -> None:
    """Queues a message and takes the descriptors over."""
    channel.send(message.kind, *values_of(message), descriptors=descriptors)


# From a worker to the main process


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """The worker has built the gateway and waits for `listen`."""

    kind: ClassVar[str] = "up"


@dataclass(frozen=True, slots=True)
class ApplyForAdmission:
    """A request, to be admitted, refused or replayed; `path` names the route."""

    kind: ClassVar[str] = "apply"
    request_id: str
    path: str
    grant: KeyGrant
    request: RequestSummary
    once: IdempotencyKey | None

    def encode(self) -> list[Any]:
        once = None if self.once is None else [self.once.name, self.once.digest.hex()]
        request = values_of(self.request)
        return [self.request_id, self.path, encode_grant(self.grant), request, once]

    @classmethod
    def decode(
        cls, request_id: str, path: str, grant: list[Any], request: list[Any], once: list[str] | None
    ) -> ApplyForAdmission:
        key = None if once is None else IdempotencyKey(once[0], bytes.fromhex(once[1]))
        return cls(request_id, path, decode_grant(grant), RequestSummary(*request), key)


@dataclass(frozen=True, slots=True)
class WithdrawApplication:
    """The caller of a request that is not admitted yet is gone."""

    kind: ClassVar[str] = "withdraw"
    request_id: str


@dataclass(frozen=True, slots=True)
class EngineLost:
    """A replica ended during work on a request of this fingerprint (hexadecimal)."""

    kind: ClassVar[str] = "lost"
    replica: str
    generation: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RequestMoved:
    """An admitted request goes on at another replica."""

    kind: ClassVar[str] = "moved"
    request_id: str
    replica: str
    generation: int


@dataclass(frozen=True, slots=True)
class SettleRequest:
    """An admitted request has ended. `document` is the answer where an idempotency key may replay the answer."""

    kind: ClassVar[str] = "settle"
    request_id: str
    record: TerminalRecord
    status: int
    refused: bool
    document: str | None

    def encode(self) -> list[Any]:
        record = values_of(self.record)
        return [self.request_id, record, self.status, self.refused, self.document]

    @classmethod
    def decode(
        cls, request_id: str, record: list[Any], status: int, refused: bool, document: str | None
    ) -> SettleRequest:
        return cls(request_id, TerminalRecord(*record), status, refused, document)


@dataclass(frozen=True, slots=True)
class LookUpKey:
    """Requests the grant of the key with this SHA-256 digest (hexadecimal)."""

    kind: ClassVar[str] = "key"
    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A caller's connection from `host`, to be counted against the connection limits."""

    kind: ClassVar[str] = "enter"
    connection: int
    host: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    kind: ClassVar[str] = "leave"
    connection: int


@dataclass(frozen=True, slots=True)
class MetricsCounted:
    """The growth of counters and histograms since the last message, as `Metrics.take` returns the growth."""

    kind: ClassVar[str] = "counted"
    taken: list[Any]


@dataclass(frozen=True, slots=True)
class EventEmitted:
    kind: ClassVar[str] = "event"
    name: str
    level: Literal["debug", "info", "warning", "error"]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """The result of the `move`, `scrape` or `drain` of this number."""

    kind: ClassVar[str] = "answer"
    number: int
    result: Any


@dataclass(frozen=True, slots=True)
class TunnelOpened:
    """Carries a single descriptor: a connection for a request that is not inference."""

    kind: ClassVar[str] = "tunnel"


@dataclass(frozen=True, slots=True)
class ConnectionReturned:
    """Carries a single descriptor: a caller's connection between two requests, for the next agent."""

    kind: ClassVar[str] = "connection"


# From the main process to a worker


@dataclass(frozen=True, slots=True)
class BeginWorker:
    """The first message. Carries the worker's listening sockets; `secret` is hexadecimal, `certificate` the files."""

    kind: ClassVar[str] = "begin"
    settings: GatewaySettings
    secret: str
    certificate: list[str] | None

    def encode(self) -> list[Any]:
        settings, secret, certificate = asdict(self.settings), self.secret, self.certificate
        return [{"settings": settings, "secret": secret, "certificate": certificate}]

    @classmethod
    def decode(cls, values: dict[str, Any]) -> BeginWorker:
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values["settings"].items()
        }
        return cls(GatewaySettings(**settings), values["secret"], values["certificate"])


@dataclass(frozen=True, slots=True)
class ListenOn:
    """Start listening on the sockets of `begin` and on the sockets that this message carries."""

    kind: ClassVar[str] = "listen"


@dataclass(frozen=True, slots=True)
class ServeConnection:
    """Carries a single descriptor: a caller's connection that another agent of this home had accepted."""

    kind: ClassVar[str] = "connection"


@dataclass(frozen=True, slots=True)
class MoveConnections:
    """Stop listening and return every connection that is between two requests. The answer: whether none is left."""

    kind: ClassVar[str] = "move"
    number: int


@dataclass(frozen=True, slots=True)
class KeysRevised:
    """The plane's key set has this revision now."""

    kind: ClassVar[str] = "revise"
    revision: int


@dataclass(frozen=True, slots=True)
class EnterLameDuck:
    """From now on each answer is the last on the connection."""

    kind: ClassVar[str] = "lame_duck"


@dataclass(frozen=True, slots=True)
class RereadCertificate:
    kind: ClassVar[str] = "reread"


@dataclass(frozen=True, slots=True)
class ReportCounts:
    """Send `counted` now, then the answer null."""

    kind: ClassVar[str] = "scrape"
    number: int


@dataclass(frozen=True, slots=True)
class DrainRequests:
    """Admit nothing more. The answer, after `deadline_s` at the latest: the number of requests that were cut."""

    kind: ClassVar[str] = "drain"
    number: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class StopWorker:
    kind: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class RequestAdmitted:
    """`headers` are the rate limits for the caller."""

    kind: ClassVar[str] = "admitted"
    admission: Admission
    replica: str
    generation: int
    headers: dict[str, str]

    @classmethod
    def decode(
        cls, admission: dict[str, Any], replica: str, generation: int, headers: dict[str, str]
    ) -> RequestAdmitted:
        return cls(Admission(**admission), replica, generation, headers)


@dataclass(frozen=True, slots=True)
class RequestRefused:
    kind: ClassVar[str] = "refused"
    request_id: str
    problem: Problem
    endpoint: str
    headers: dict[str, str]

    @classmethod
    def decode(
        cls, request_id: str, problem: dict[str, Any], endpoint: str, headers: dict[str, str]
    ) -> RequestRefused:
        return cls(request_id, Problem(**problem), endpoint, headers)


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """The stored answer of the request `original`, which had the same idempotency key."""

    kind: ClassVar[str] = "replay"
    request_id: str
    original: str
    document: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class SendKeepalive:
    """The request still waits; a stream sends the caller a comment."""

    kind: ClassVar[str] = "comfort"
    request_id: str


@dataclass(frozen=True, slots=True)
class RecordSaved:
    """The usage record of a settled request is on disk, or (`saved` false) could not be written."""

    kind: ClassVar[str] = "saved"
    request_id: str
    saved: bool


@dataclass(frozen=True, slots=True)
class KeyFound:
    """The answer to `key`. `known` false: the plane is away; `grant` None: no such key."""

    kind: ClassVar[str] = "key"
    number: int
    known: bool
    grant: KeyGrant | None

    def encode(self) -> list[Any]:
        return [self.number, self.known, None if self.grant is None else encode_grant(self.grant)]

    @classmethod
    def decode(cls, number: int, known: bool, grant: list[Any] | None) -> KeyFound:
        return cls(number, known, None if grant is None else decode_grant(grant))


@dataclass(frozen=True, slots=True)
class FleetChanged:
    kind: ClassVar[str] = "fleet"
    fleet: FleetView

    @classmethod
    def decode(cls, fleet: Any) -> FleetChanged:
        return cls(_FLEET.validate_python(fleet))


@dataclass(frozen=True, slots=True)
class QuarantineActive:
    """Requests carry a fingerprint while a quarantine is active."""

    kind: ClassVar[str] = "wary"
    active: bool


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """The connection of `enter` is over a limit, which `reason` names."""

    kind: ClassVar[str] = "crowded"
    connection: int
    reason: str


TO_MAIN: Final = MessageTable(
    WorkerUp, ApplyForAdmission, WithdrawApplication, EngineLost, RequestMoved, SettleRequest, LookUpKey,
    ConnectionOpened, ConnectionClosed, MetricsCounted, EventEmitted, WorkerAnswer, TunnelOpened,
    ConnectionReturned,
)  # fmt: skip
TO_WORKER: Final = MessageTable(
    BeginWorker, ListenOn, ServeConnection, MoveConnections, KeysRevised, EnterLameDuck, RereadCertificate,
    ReportCounts, DrainRequests, StopWorker, RequestAdmitted, RequestRefused, ReplayAnswer, SendKeepalive,
    RecordSaved, KeyFound, FleetChanged, QuarantineActive, ConnectionRefused,
)  # fmt: skip

"""Hand-over messages: every kind between a running agent (predecessor) and the agent that replaces it (successor).

`docs/internals/upgrade-protocol.md` lists every kind in order. The two agents may come from two releases: no kind and
no field changes its JSON form. A message's body is null without fields, the value of a single field, or a list of
several.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import TypeAdapter

from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Admission, UsageRecord
from pareta_agent.ipc.link import Link, LinkMessage
from pareta_agent.ipc.message_table import MessageTable, TypedMessage, field_names, values_of

_ADMISSION: Final = TypeAdapter(Admission)
_RECORD: Final = TypeAdapter(UsageRecord)
_FLEET: Final = TypeAdapter(FleetView)
_KEPT: Final = TypeAdapter(frozenset[str] | None)


def send(link: Link, message: TypedMessage, descriptors: Sequence[int] = ()) -> None:
    """Sends a message and takes the descriptors over."""
    values = values_of(message)
    body = None if not values else values[0] if len(values) == 1 else list(values)
    link.send(message.kind, body, descriptors)


def decode(table: MessageTable, message: LinkMessage) -> Any:
    """The message of `table`; None for an unknown kind, which receivers ignore."""
    found = table.by_kind.get(message.kind)
    if found is None:
        return None
    fields = len(field_names(found))
    values = [] if fields == 0 else [message.body] if fields == 1 else message.body
    return table.decode(message.kind, values)


# From the successor to the predecessor


@dataclass(frozen=True, slots=True)
class RequestHandover:
    """The first message of a link."""

    kind: ClassVar[str] = "hello"


@dataclass(frozen=True, slots=True)
class SpoolTaken:
    """The successor has opened the spool and has read the open admissions."""

    kind: ClassVar[str] = "taken"


@dataclass(frozen=True, slots=True)
class NowServing:
    """The successor answers callers; from now on a hand-over is not taken back."""

    kind: ClassVar[str] = "serving"


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """The answer to the `finish` (null: on disk) or `lease` (micro-USD and seconds; null: no credit) of this number."""

    kind: ClassVar[str] = "answer"
    number: int
    result: Any


@dataclass(frozen=True, slots=True)
class FleetOffered:
    """The fleet to serve from, the replicas that are kept (by name; None: all), and whether to admit requests."""

    kind: ClassVar[str] = "fleet"
    fleet: FleetView
    kept: Collection[str] | None
    admits: bool

    @classmethod
    def decode(cls, fleet: Any, kept: Any, admits: bool) -> FleetOffered:
        return cls(_FLEET.validate_python(fleet), _KEPT.validate_python(kept), admits)


@dataclass(frozen=True, slots=True)
class ConfirmFleet:
    """Requests a `looked` with this number, once the last `fleet` is in use."""

    kind: ClassVar[str] = "look"
    number: int


# From the predecessor to the successor


@dataclass(frozen=True, slots=True)
class OfferListeners:
    """The answer to `hello`: the spool is closed. Carries the listening sockets."""

    kind: ClassVar[str] = "take"


@dataclass(frozen=True, slots=True)
class OwnershipPassed:
    """The answer to `taken`: engines and credit are the successor's. `load`: requests in flight here by replica."""

    kind: ClassVar[str] = "yours"
    load: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LoadChanged:
    """The predecessor's requests in flight, by replica."""

    kind: ClassVar[str] = "load"
    load: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class WaitingChanged:
    """The predecessor's requests that wait for an endpoint, by endpoint."""

    kind: ClassVar[str] = "waiting"
    waiting: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AdmissionMade:
    """The predecessor has admitted a request."""

    kind: ClassVar[str] = "admit"
    admission: Admission

    @classmethod
    def decode(cls, admission: Any) -> AdmissionMade:
        return cls(_ADMISSION.validate_python(admission))


@dataclass(frozen=True, slots=True)
class RecordMade:
    """A request of the predecessor has ended: the record, to be written and confirmed by `answer`."""

    kind: ClassVar[str] = "finish"
    number: int
    record: UsageRecord

    @classmethod
    def decode(cls, number: int, record: Any) -> RecordMade:
        return cls(number, _RECORD.validate_python(record))


@dataclass(frozen=True, slots=True)
class LeaseCredit:
    """Requests credit for an org: the org and micro-USD."""

    kind: ClassVar[str] = "lease"
    number: int
    amount: tuple[str, int]


@dataclass(frozen=True, slots=True)
class WakeEndpoint:
    """A request of the predecessor waits for this endpoint, which sleeps."""

    kind: ClassVar[str] = "wake"
    endpoint: str


@dataclass(frozen=True, slots=True)
class FleetConfirmed:
    """The answer to `look`: the predecessor uses the fleet of this number, with this load by replica."""

    kind: ClassVar[str] = "looked"
    number: int
    load: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ConnectionPassed:
    """Carries a descriptor: a caller's connection between two requests."""

    kind: ClassVar[str] = "connection"


@dataclass(frozen=True, slots=True)
class HandoverDone:
    """The last message. `unspent`: the remaining micro-USD and seconds of each org's lease."""

    kind: ClassVar[str] = "bye"
    unspent: Mapping[str, tuple[int, float]]


TO_PREDECESSOR: Final = MessageTable(
    RequestHandover, SpoolTaken, NowServing, RequestAnswered, FleetOffered, ConfirmFleet
)
TO_SUCCESSOR: Final = MessageTable(
    OfferListeners, OwnershipPassed, LoadChanged, WaitingChanged, AdmissionMade, RecordMade, LeaseCredit,
    WakeEndpoint, FleetConfirmed, ConnectionPassed, HandoverDone,
)  # fmt: skip

"""Control-plane wire, v1: defines every body that a node and its plane exchange.

Both sides ignore unknown members, so that either side may be newer. Money is integer micro-USD. Times named
`server_time` are Unix seconds; `expires_s` counts from the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
MAX_EVENTS = 500
MAX_EVENTS_BYTES = 2**20
EVENTS_CONTENT_TYPE = "application/cloudevents-batch+json"

Natural = Annotated[int, Field(ge=0)]
NodeState = Literal["starting", "ready", "draining", "fenced"]


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Answer(Wire):
    server_time: float


class EpochMark(Wire):
    """Length of an epoch's chain on the node. A restored plane requests the records that it lost."""

    epoch: Natural
    last_seq: Natural
    acked_seq: Natural


class CreditLease(Wire):
    """The node may spend `granted_micro_usd` of this org within `expires_s` seconds; 0 is a refusal."""

    org: str
    granted_micro_usd: Natural
    expires_s: float


class Register(Wire):
    """`epochs` are the epochs in the spool; the plane's next epoch is above all of them.

    `front_url` is the address of the node for callers, for a plane that is itself a caller (evals).
    """

    node: str
    boot_id: str
    agent_version: str
    inventory: dict[str, Any] = {}
    capabilities: list[str] = []
    spool_id: str = ""
    epochs: list[EpochMark] = []
    front_url: str = ""


class Registered(Answer):
    """`expected` maps an epoch to the next sequence that the plane accepts. Only epochs in which the plane is behind
    are listed.
    """

    epoch: Annotated[int, Field(ge=1)]
    heartbeat_s: float
    lease_ttl_s: float
    keys_revision: Natural
    desired_revision: Natural
    credit_leases: list[CreditLease] = []
    expected: dict[int, int] = {}


class EngineCounts(Wire):
    ready: Natural = 0
    starting: Natural = 0
    failed: Natural = 0


class SpoolReport(Wire):
    last_seq: Natural = 0
    last_hash: str = ""
    acked_seq: Natural = 0
    admitted: Natural = 0
    terminal: Natural = 0
    quarantined: Natural = 0
    bytes: Natural = 0


class Revisions(Wire):
    desired: Natural = 0
    keys: Natural = 0


class Heartbeat(Wire):
    node: str
    epoch: Annotated[int, Field(ge=1)]
    hb_seq: Natural
    boot_id: str
    state: NodeState
    process_alive: bool = True
    engines: EngineCounts = EngineCounts()
    metering_ok: bool = True
    running: Natural = 0
    waiting: Natural = 0
    spool: SpoolReport = SpoolReport()
    disk_free_bytes: Natural = 0
    clock_offset_s: float | None = None
    config_digest: str = ""
    revisions: Revisions = Revisions()
    inventory: dict[str, Any] | None = None


class HeartbeatAnswer(Answer):
    """`expected_seq` is set if the plane is behind the node's acknowledged sequence: the node rewinds.

    `keys_withdrawn`: hashes of the keys revoked since the node's revision. null: the node forgets every known key.
    """

    heartbeat_s: float
    lease_ttl_s: float
    desired_revision: Natural
    keys_revision: Natural
    keys_withdrawn: list[str] | None = None
    directives: list[Literal["drain"]] = []
    credit_leases: list[CreditLease] = []
    expected_seq: int | None = None


class WirePrice(Wire):
    """Micro-USD per million tokens."""

    input_micro_usd_per_mtok: Natural = 0
    cached_input_micro_usd_per_mtok: Natural = 0
    output_micro_usd_per_mtok: Natural = 0


class DesiredEndpoint(Wire):
    """One endpoint of the desired state.

    `price` lets the node reserve credit; the plane decides the debit. `system_prompt` is the policy for system
    prompts. A higher `attempt` requires a new attempt after a start was given up. An unlisted endpoint (`listed`
    false) answers calls with its id, and is absent from the org's models. After `idle_sleep_s` seconds without a call
    the endpoint may sleep; 0: never; null: the node decides.
    """

    id: str
    org: str
    task: str
    alias: str
    state: Literal["running", "stopped"] = "running"
    objective: Literal["balanced", "latency", "throughput"] | None = None
    replicas: Annotated[int, Field(ge=1)] | None = None
    system_prompt: Literal["task", "none"] = "task"
    price: WirePrice = WirePrice()
    created_s: Natural = 0
    listed: bool = True
    attempt: Natural = 0
    idle_sleep_s: Annotated[float, Field(ge=0)] | None = None


class Desired(Answer):
    revision: Natural
    endpoints: list[DesiredEndpoint]


class Progress(Wire):
    """Progress of a start: `percent` of the usual start time on this node, `eta_s` the remaining seconds."""

    phase: str
    percent: Annotated[int, Field(ge=0, le=100)]
    eta_s: Natural | None = None
    message: str = ""


class ObservedEndpoint(Wire):
    """`plan` is a summary for people: layout, precision, limits; never a weights id or a path."""

    id: str
    status: Literal["deploying", "live", "stopped", "failed", "cold"]
    reason: str | None = None
    plan: dict[str, Any] = {}
    progress: Progress | None = None


class Observed(Wire):
    epoch: Annotated[int, Field(ge=1)]
    desired_revision: Natural
    endpoints: list[ObservedEndpoint]


class Rejected(Wire):
    sequence: Natural
    reason: str


class Ack(Answer):
    epoch: Natural
    acked_seq: Natural
    hash: str
    duplicates: Natural = 0
    rejected: list[Rejected] = []


class Gap(Answer):
    """The body of a 409: the next sequence that the plane accepts."""

    expected_seq: Annotated[int, Field(ge=1)]


class Introspect(Wire):
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class KeyLimits(Wire):
    """None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class KeyAnswer(Answer):
    """`endpoints` null: all endpoints of the org.

    `partial` is the org's policy for partial answers. `delivered`: the delivered tokens are debited, and the node
    reserves credit for them. The plane decides the debit.
    """

    org: str
    key_id: str
    state: Literal["active", "revoked", "no_credit"]
    endpoints: list[str] | None = None
    limits: KeyLimits = KeyLimits()
    partial: Literal["none", "delivered"] = "none"
    ttl_s: float


class CreditRequest(Wire):
    """`heard_micro_usd`: the sum of the grants that the node received for the org in this epoch.

    The plane releases grants beyond that sum, whose answers were lost. null: the node does not count.
    """

    org: str
    epoch: Annotated[int, Field(ge=1)]
    micro_usd: Annotated[int, Field(ge=1)]
    heard_micro_usd: Natural | None = None


class CreditAnswer(Answer):
    lease: CreditLease


class PlanQuestion(Wire):
    """Does this task and alias fit on the node now, beside the running engines? A question starts nothing."""

    id: str
    task: str
    alias: str


class PlanQuestions(Answer):
    questions: list[PlanQuestion]


class PlanVerdict(Wire):
    """`busy`: fits on the node without its other engines. `reason` is for the owner: never a weights id or a path."""

    id: str
    verdict: Literal["fits", "busy", "never"]
    reason: str = ""

"""Usage record: tokens and outcome of one request. Never a prompt, a key or a weights id."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import Literal

from pareta_agent.value import value


class Outcome(StrEnum):
    """The end of an admitted request, exactly one for each; only COMPLETED may be debited."""

    COMPLETED = "completed"
    PARTIAL_CLIENT = "partial_client"
    FAILED_ENGINE = "failed_engine"
    FAILED_SERVER = "failed_server"
    FAILED_TIMEOUT = "failed_timeout"
    AGENT_CRASH = "agent_crash"


UsageSource = Literal["engine_final", "chunk_count", "none", "suspect"]
PartialPolicy = Literal["none", "delivered"]


@value
class Tokens:
    """Token counts of one request; `input` includes `input_cached`."""

    input: int = 0
    input_cached: int = 0
    output: int = 0
    output_reasoning: int = 0


@value
class Admission:
    """An admitted request's facts at admission; the spool stores the admission until a record closes the request."""

    request_id: str
    org: str
    key_id: str
    endpoint: str
    task: str
    alias: str
    route: str
    streamed: bool
    t_admit_wall_s: float


@value
class UsageRecord:
    """The final record of an admission. Offsets are seconds after `t_admit`, None for an event that never came.

    `client_request_id` is the caller's own id of the request, and need not be unique.
    """

    admission: Admission
    outcome: Outcome
    usage_source: UsageSource
    tokens: Tokens = field(default_factory=Tokens)
    finish_reasons: tuple[str, ...] = ()
    choices: int = 1
    retry_count: int = 0
    t_first_token_s: float | None = None
    t_end_s: float = 0.0
    replica: str = ""
    generation: int = 0
    engine_version: str | None = None
    audio_seconds: int = 0
    client_request_id: str = ""

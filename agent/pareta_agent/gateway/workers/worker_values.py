"""Worker values: encode requests, usage records and grants as JSON lists for the worker messages."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

from pareta_agent.contract.grant import GrantLimits, KeyGrant
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.gateway.admission.balancer import MIN_PREFIX_CHARS, prompt_prefix
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.ipc.message_table import values_of


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """The part of an inference request that admission uses. `beginning` of the prompt is empty without a choice of
    replicas; `fingerprint` is hexadecimal, None while no quarantine is active.
    """

    model: str
    beginning: str
    body_bytes: int
    stream: bool
    prompts: int
    n: int
    max_tokens: int | None
    generates: bool
    audio: bool
    media: bool
    fingerprint: str | None

    @classmethod
    def of(
        cls, request: InferenceRequest, prompt: str, several: bool, fingerprint: bytes | None
    ) -> RequestSummary:
        """`prompt` names the prompt's field; `several`: the endpoint has several replicas."""
        prefix = prompt_prefix(request.fields.get(prompt)) if several else ""
        return cls(
            request.model,
            prefix if len(prefix) >= MIN_PREFIX_CHARS else "",
            request.body_bytes,
            request.stream,
            request.prompts,
            request.n,
            request.max_tokens,
            request.generates,
            request.audio,
            request.media,
            fingerprint.hex() if fingerprint else None,
        )

    def request(self, prompt: str) -> InferenceRequest:
        return InferenceRequest(
            model=self.model,
            fields={prompt: self.beginning},
            body_bytes=self.body_bytes,
            stream=self.stream,
            prompts=self.prompts,
            n=self.n,
            max_tokens=self.max_tokens,
            generates=self.generates,
            audio=self.audio,
            media=self.media,
            fingerprint=bytes.fromhex(self.fingerprint) if self.fingerprint else None,
        )


@dataclass(frozen=True, slots=True)
class TerminalRecord:
    """A usage record without the admission, which the main process has."""

    outcome: str
    usage_source: Any
    tokens: list[int]
    finish_reasons: list[str]
    choices: int
    retry_count: int
    t_first_token_s: float | None
    t_end_s: float
    replica: str
    generation: int
    engine_version: str | None
    audio_seconds: int
    client_request_id: str

    @classmethod
    def of(cls, record: UsageRecord) -> TerminalRecord:
        return cls(
            record.outcome.value,
            record.usage_source,
            list(astuple(record.tokens)),
            list(record.finish_reasons),
            record.choices,
            record.retry_count,
            record.t_first_token_s,
            record.t_end_s,
            record.replica,
            record.generation,
            record.engine_version,
            record.audio_seconds,
            record.client_request_id,
        )

    def record(self, admission: Admission) -> UsageRecord:
        outcome, source, tokens, reasons, *rest = values_of(self)
        return UsageRecord(admission, Outcome(outcome), source, Tokens(*tokens), tuple(reasons), *rest)


def encode_grant(grant: KeyGrant) -> list[Any]:
    endpoints = None if grant.endpoints is None else sorted(grant.endpoints)
    limits = astuple(grant.limits)
    return [grant.org, grant.key_id, grant.state, endpoints, grant.ttl_s, limits, grant.partial]


def decode_grant(values: list[Any]) -> KeyGrant:
    org, key_id, state, endpoints, ttl_s, limits, partial = values
    reached = None if endpoints is None else frozenset(endpoints)
    return KeyGrant(org, key_id, state, reached, ttl_s, GrantLimits(*limits), partial)

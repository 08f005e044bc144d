"""Usage: builds the usage record of an admitted request from observations. Pure."""

from __future__ import annotations

from typing import Final

from pareta_agent.contract.fleet_view import EndpointView, ReplicaView
from pareta_agent.contract.outcome import RequestFacts, outcome
from pareta_agent.contract.usage_record import Admission, Tokens, UsageRecord
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.meter.audit import Counted
from pareta_agent.meter.usage import Bounds, judge
from pareta_agent.value import value

UNKNOWN_CONTEXT_TOKENS: Final = 2**20


@value
class Times:
    """Monotonic seconds; None for a moment that never came. `retries` counts repeated sends."""

    admitted_s: float
    ended_s: float
    first_token_s: float | None = None
    retries: int = 0


@value
class Used:
    """The usage that an answer reported; `chunks` counts the events with text."""

    tokens: Tokens | None
    chunks: int = 0
    audio_seconds: int = 0


def settle(
    admission: Admission,
    facts: RequestFacts,
    used: Used,
    bounds: Bounds,
    times: Times,
    replica: ReplicaView,
) -> UsageRecord:
    """The terminal record of an admission."""
    counted, source = judge(used.tokens, bounds, used.chunks)
    first = times.first_token_s
    return UsageRecord(
        admission=admission,
        outcome=outcome(facts),
        usage_source=source,
        tokens=counted,
        audio_seconds=used.audio_seconds,
        finish_reasons=facts.finish_reasons,
        choices=facts.choices,
        retry_count=times.retries,
        t_first_token_s=None if first is None else first - times.admitted_s,
        t_end_s=times.ended_s - times.admitted_s,
        replica=replica.name,
        generation=replica.generation,
        engine_version=replica.engine_version,
    )


def bounds_of(request: InferenceRequest, endpoint: EndpointView) -> Bounds:
    """The maximum usage of the request, by the request's fields and by the engine's limits."""
    return Bounds(
        prompts=request.prompts,
        choices=request.n,
        max_tokens=request.max_tokens,
        max_model_len=None if request.audio else endpoint.max_model_len,
        counts_output=request.generates,
    )


def prompt_bytes(request: InferenceRequest, endpoint: EndpointView) -> int:
    """The maximum length of the request's prompt in bytes, in any encoding."""
    if request.media:
        return UNKNOWN_CONTEXT_TOKENS
    return request.body_bytes + len((endpoint.system_prompt or "").encode())


def most_of(bounds: Bounds, prompt_bytes: int) -> Counted:
    """The maximum that an engine can count for a request: at most a token per byte, and at most the context."""
    context = bounds.max_model_len or UNKNOWN_CONTEXT_TOKENS
    answers = bounds.prompts * bounds.choices
    longest = min(bounds.max_tokens or context, context) + 1 if bounds.counts_output else 0
    return Counted(min(prompt_bytes, context) * answers, longest * answers)

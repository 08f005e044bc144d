"""What the main process and its workers tell each other of a call, as plain values and back."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import Any

from pydantic import TypeAdapter

from pareta_agent.access.grant import GrantLimits, KeyGrant
from pareta_agent.engine.view import FleetView
from pareta_agent.front.body import InferenceRequest
from pareta_agent.front.choice import MIN_PREFIX_CHARS, prompt_prefix
from pareta_agent.front.envelope import Problem
from pareta_agent.meter.record import Admission, Outcome, Tokens, UsageRecord

FLEET = TypeAdapter(FleetView)


def grant_out(grant: KeyGrant) -> list[Any]:
    endpoints = None if grant.endpoints is None else sorted(grant.endpoints)
    return [
        grant.org,
        grant.key_id,
        grant.state,
        endpoints,
        grant.ttl_s,
        astuple(grant.limits),
        grant.partial,
    ]


def grant_in(told: list[Any]) -> KeyGrant:
    org, key_id, state, endpoints, ttl_s, limits, partial = told
    reached = None if endpoints is None else frozenset(endpoints)
    return KeyGrant(org, key_id, state, reached, ttl_s, GrantLimits(*limits), partial)


def ask_out(request: InferenceRequest, prompt: str, several: bool, mark: bytes | None) -> list[Any]:
    """What the books must know of a request: of its words the beginning, and that only where it helps to choose."""
    begins = prompt_prefix(request.fields.get(prompt)) if several else ""
    return [
        request.model,
        begins if len(begins) >= MIN_PREFIX_CHARS else "",
        request.body_bytes,
        request.stream,
        request.prompts,
        request.n,
        request.max_tokens,
        request.generates,
        request.audio,
        request.media,
        mark.hex() if mark else None,
    ]


def ask_in(told: list[Any], prompt: str) -> InferenceRequest:
    model, begins, body_bytes, stream, prompts, n, max_tokens, generates, audio, media, mark = told
    return InferenceRequest(
        model=model,
        fields={prompt: begins},
        body_bytes=body_bytes,
        stream=stream,
        prompts=prompts,
        n=n,
        max_tokens=max_tokens,
        generates=generates,
        audio=audio,
        media=media,
        fingerprint=bytes.fromhex(mark) if mark else None,
    )


def record_out(record: UsageRecord) -> list[Any]:
    """A record without its admission, which the main process has."""
    return [
        record.outcome.value,
        record.usage_source,
        astuple(record.tokens),
        record.finish_reasons,
        record.choices,
        record.retry_count,
        record.t_first_token_s,
        record.t_end_s,
        record.replica,
        record.generation,
        record.engine_version,
        record.audio_seconds,
        record.client_request_id,
    ]


def record_in(admission: Admission, told: list[Any]) -> UsageRecord:
    outcome, source, tokens, reasons, *rest = told
    return UsageRecord(admission, Outcome(outcome), source, Tokens(*tokens), tuple(reasons), *rest)


def problem_out(problem: Problem) -> dict[str, Any]:
    return asdict(problem)


def problem_in(told: dict[str, Any]) -> Problem:
    return Problem(**told)

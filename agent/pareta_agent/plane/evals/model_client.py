"""Model client: sends one prompt to one model over OpenAI's chat API. The only address from which the plane calls
models.

Retries transient errors within a budget; every other error is an answer too.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from pareta_agent.backoff import EQUAL_JITTER, Backoff
from pareta_agent.clock import Clock

if TYPE_CHECKING:
    import aiohttp

TRIES: Final = 6
RETRY: Final = Backoff(first_s=1.0, cap_s=30.0, jitter=EQUAL_JITTER)
CALL_S: Final = 600.0
_TRIED_AGAIN: Final = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """The address of a model: `base_url` ends in /v1; `model` is the name there."""

    base_url: str
    model: str
    key: str


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """`text` is None when `error` is set; `status` is the last HTTP status, None without an answer."""

    text: str | None
    error: str | None
    status: int | None
    latency_s: float
    request_id: str
    input_tokens: int = 0
    output_tokens: int = 0


async def ask(
    session: aiohttp.ClientSession,
    clock: Clock,
    where: Callable[[], Awaitable[ModelAddress]],
    messages: list[dict[str, Any]],
    max_tokens: int,
) -> ModelAnswer:
    """Returns the model's greedy answer.

    `latency_s` covers the last attempt alone; each attempt calls `where` for the address.
    """
    said = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
    reply = ModelAnswer(None, "the model was never called", None, 0.0, "")
    for attempt in range(TRIES):
        if attempt:
            await clock.sleep(RETRY.delay_s(attempt, random.random()))
        place = await where()
        reply = await _once(session, clock, place, orjson.dumps({"model": place.model, **said}))
        if reply.error is None or (reply.status is not None and reply.status not in _TRIED_AGAIN):
            break
    return reply


async def _once(
    session: aiohttp.ClientSession, clock: Clock, place: ModelAddress, body: bytes
) -> ModelAnswer:
    import aiohttp  # loaded by the first call: a start of the plane must not pay for the import
    from yarl import URL

    begun_s = clock.mono_s()
    headers = {"authorization": f"Bearer {place.key}", "content-type": "application/json"}
    url = URL(place.base_url.rstrip("/") + "/chat/completions")
    try:
        async with session.post(
            url,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=CALL_S),
            ssl=not _is_loopback(url.host),
        ) as answer:
            said = await answer.read()
            latency_s = clock.mono_s() - begun_s
            return _model_answer(answer.status, said, latency_s, answer.headers.get("x-request-id", ""))
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = f"no answer: {type(error).__name__}"
        return ModelAnswer(None, reason, None, clock.mono_s() - begun_s, "")


def _model_answer(status: int, said: bytes, latency_s: float, request_id: str) -> ModelAnswer:
    try:
        body = orjson.loads(said)
        if status == 200:
            usage = body.get("usage") or {}
            tokens = (int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
            text = body["choices"][0]["message"].get("content") or ""
            return ModelAnswer(str(text), None, status, latency_s, request_id, *tokens)
        fault = body.get("error")
        message = fault.get("message") if isinstance(fault, dict) else None
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError, ValueError):
        message = None
    return ModelAnswer(
        None, f"{status}: {message or 'an unreadable answer'}"[:500], status, latency_s, request_id
    )


def _is_loopback(host: str | None) -> bool:
    """True on loopback, where the certificate check is skipped: a node's certificate has the public name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False

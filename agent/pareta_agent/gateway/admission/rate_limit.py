"""Rate limit: applies a key's limits of requests, tokens and concurrency to a call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pareta_agent.access.limits import Excess, Limiter, Permit
from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.gateway.admission.rules import DEFAULT_CONTEXT_TOKENS
from pareta_agent.gateway.api.request_body import InferenceRequest

LIKELY_ANSWER_TOKENS: Final = 256


def enter(
    limiter: Limiter,
    grant: KeyGrant,
    request: InferenceRequest,
    endpoint: EndpointView,
    add_headers: Callable[[dict[str, str]], None],
) -> Permit | Problem:
    """The call's permit or a 429; `add_headers` receives the current `x-ratelimit-*` headers."""
    likely = _likely_tokens(request, endpoint, grant.limits.tokens_per_minute)
    found = limiter.enter(grant.key_id, grant.limits, likely)
    add_headers(limiter.headers(grant.key_id, grant.limits))
    return _over_limit(found) if isinstance(found, Excess) else found


def _likely_tokens(request: InferenceRequest, endpoint: EndpointView, limit: int | None) -> int:
    """The tokens that a request counts against `limit` a minute until the usage record exists.

    Without `max_tokens` the answer is estimated, and the estimate alone never causes a refusal: the whole context
    would exceed every modest limit. An overrun is deducted from the next minutes.
    """
    context = endpoint.max_model_len or DEFAULT_CONTEXT_TOKENS
    prompt = min(request.body_bytes // 3, context * request.prompts)
    if request.max_tokens is not None:
        return prompt + min(request.max_tokens, context) * request.choices
    likely = prompt + min(LIKELY_ANSWER_TOKENS, context) * request.choices
    return likely if limit is None else max(prompt, min(likely, limit))


def _over_limit(excess: Excess) -> Problem:
    """The 429 of a key at a limit; `retry` is False if no wait helps."""
    what = {"requests": "requests a minute", "tokens": "tokens a minute", "concurrency": "requests at once"}
    message = f"This key is limited to {excess.limit} {what[excess.kind]}"
    if excess.retry_after_s is None:
        return Problem("rate_limited", f"{message}, and this request asks for more than that.", retry=False)
    return Problem("rate_limited", f"{message}.", retry_after_s=math.ceil(excess.retry_after_s))

"""A call at its key's limits: what it takes of them, what the caller hears of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pareta_agent.access.grant import KeyGrant
from pareta_agent.access.limits import Excess, Limiter, Permit
from pareta_agent.engine.view import EndpointView
from pareta_agent.front.admission import DEFAULT_CONTEXT_TOKENS
from pareta_agent.front.body import InferenceRequest
from pareta_agent.front.envelope import Problem

LIKELY_ANSWER_TOKENS: Final = 256


def enter(
    limiter: Limiter,
    grant: KeyGrant,
    request: InferenceRequest,
    endpoint: EndpointView,
    add_headers: Callable[[dict[str, str]], None],
) -> Permit | Problem:
    """The call's permit or its 429; `tell` gets the `x-ratelimit-*` headers as they stand then."""
    likely = _likely_tokens(request, endpoint, grant.limits.tokens_per_minute)
    found = limiter.enter(grant.key_id, grant.limits, likely)
    add_headers(limiter.headers(grant.key_id, grant.limits))
    return _over_limit(found) if isinstance(found, Excess) else found


def _likely_tokens(request: InferenceRequest, endpoint: EndpointView, limit: int | None) -> int:
    """What the request is held to use of `limit` tokens a minute until its record says better.

    Without `max_tokens` the answer is a guess that never refuses by itself: the whole context would let nobody with a
    modest limit in, and an overrun is taken from the minutes to come.
    """
    context = endpoint.max_model_len or DEFAULT_CONTEXT_TOKENS
    prompt = min(request.body_bytes // 3, context * request.prompts)
    if request.max_tokens is not None:
        return prompt + min(request.max_tokens, context) * request.choices
    likely = prompt + min(LIKELY_ANSWER_TOKENS, context) * request.choices
    return likely if limit is None else max(prompt, min(likely, limit))


def _over_limit(excess: Excess) -> Problem:
    """The 429 of a key that has reached one of its limits; what no wait will mend is not to be tried again."""
    what = {"requests": "requests a minute", "tokens": "tokens a minute", "concurrency": "requests at once"}
    message = f"This key is limited to {excess.limit} {what[excess.kind]}"
    if excess.retry_after_s is None:
        return Problem("rate_limited", f"{message}, and this request asks for more than that.", retry=False)
    return Problem("rate_limited", f"{message}.", retry_after_s=math.ceil(excess.retry_after_s))

"""Admission rules: authorize a key, find the endpoint, and bound the cost of a request. Pure."""

from __future__ import annotations

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView, FleetView
from pareta_agent.contract.grant import KeyGrant, TokenPrice
from pareta_agent.contract.price import estimate_micro_usd
from pareta_agent.contract.usage_record import Admission
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.ports import Target

DEFAULT_CONTEXT_TOKENS = 4096
STARTING = Problem("endpoint_cold", "This node is starting; try again soon.", retry_after_s=1)
_NOT_LIVE = {"stopped": "endpoint_stopped", "failed": "endpoint_failed"}


def bearer_of(authorization: bytes) -> str | Problem:
    """The bearer token of an Authorization header; a 401 for a missing header, another scheme or non-ASCII text."""
    scheme, _, token = authorization.strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token or not token.isascii() or b" " in token:
        return Problem("invalid_api_key")
    return token.decode("ascii")


def authorize(grant: KeyGrant | None) -> Problem | None:
    """None if the key may send requests at all."""
    if grant is None or grant.state == "revoked":
        return Problem("invalid_api_key")
    if grant.state == "no_credit":
        return Problem("insufficient_credit", retry=False)
    return None


def find(model: str, grant: KeyGrant, fleet: FleetView) -> EndpointView | Problem:
    """The endpoint named `model`, if this key may call that endpoint."""
    endpoint = fleet.endpoints.get(model)
    if endpoint is None and not fleet.complete:
        return STARTING
    if endpoint is None:
        return Problem("endpoint_not_found", "There is no endpoint with that id.", "model")
    if endpoint.org != grant.org or (grant.endpoints is not None and model not in grant.endpoints):
        return Problem("endpoint_forbidden", param="model")
    return endpoint


def worst_case(request: InferenceRequest, endpoint: EndpointView, price: TokenPrice | None) -> int:
    """The maximum cost of a request in micro-USD.

    Text has at most as many tokens as bytes. Media may have any number, so the whole context counts.
    """
    if price is None:
        return 0
    context = endpoint.max_model_len or DEFAULT_CONTEXT_TOKENS
    task_bytes = len((endpoint.system_prompt or "").encode())
    whole = context * request.prompts
    prompt_tokens = whole if request.media else min(request.body_bytes + task_bytes * request.prompts, whole)
    output_tokens = min(request.max_tokens or context, context) * request.choices if request.generates else 0
    return estimate_micro_usd(price, prompt_tokens, output_tokens)


def record_of(
    request_id: str, route: str, grant: KeyGrant, request: InferenceRequest, target: Target, now_s: float
) -> Admission:
    """The spool's entry for an admitted request, until the terminal record."""
    return Admission(
        request_id=request_id,
        org=grant.org,
        key_id=grant.key_id,
        endpoint=target.endpoint.id,
        task=target.endpoint.task,
        alias=target.endpoint.alias,
        route=route,
        streamed=request.stream,
        t_admit_wall_s=now_s,
    )


def unavailable(endpoint: EndpointView) -> Problem:
    """The 503 of an endpoint that is not live; `retry` is False where a retry cannot succeed."""
    code = _NOT_LIVE.get(endpoint.status, "endpoint_cold")
    hopeless = endpoint.status in _NOT_LIVE and endpoint.retry_after_s is None
    return Problem(code, retry_after_s=endpoint.retry_after_s, retry=False if hopeless else None)

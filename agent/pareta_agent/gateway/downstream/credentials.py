"""Credentials: looks up the grant of an API key, and parses large bodies off the event loop."""

from __future__ import annotations

import asyncio

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.errors import AgentError
from pareta_agent.gateway.admission.rules import authorize
from pareta_agent.gateway.api import request_body
from pareta_agent.gateway.api.media import media_bytes, too_much_text
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.downstream.context import GatewayContext


async def resolve_credentials(
    context: GatewayContext, known: KeyGrant | None, bearer: str, route: Route, data: bytearray
) -> tuple[KeyGrant | None, request_body.InferenceRequest | Problem]:
    """The key's grant, from the plane unless `known`, and the parsed body."""
    try:
        grant = known or await context.deps.keys.grant(bearer)
    except AgentError:
        return None, Problem("auth_unavailable")
    if (problem := authorize(grant)) is not None:
        return grant, problem
    found = await asyncio.to_thread(request_body.read, route, bytes(data))
    limit = context.settings.max_body_bytes
    if (
        isinstance(found, request_body.InferenceRequest)
        and len(data) > limit
        and len(data) - media_bytes(found.fields) > limit
    ):
        return grant, too_much_text(limit)
    return grant, found

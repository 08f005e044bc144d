"""What an endpoint runs on: engines of its own, or those of a base that it shares with others. Pure."""

from __future__ import annotations

import hashlib

from pareta_agent.planning.request import PlanRequest
from pareta_registry.resolve import Resolution


def wish_of(resolution: Resolution, request: PlanRequest) -> str:
    """Names what a plan is made from, but for the hardware: equal names may share a running engine."""
    model = resolution.model
    offered = [(variant.name, variant.artifact) for variant in model.variants]
    asked_for = model.id if shares(resolution) else resolution.alias.id
    return hashlib.sha256(repr((asked_for, offered, request)).encode()).hexdigest()


def shares(resolution: Resolution) -> bool:
    """A model with adapters has one engine for all of its aliases, with an adapter or without."""
    return bool(resolution.model.adapters)


def engine_of(endpoint: str, resolution: Resolution, wish: str) -> str:
    """The engines' name. Endpoints share when all that their plans are made from is equal, so that one plan is
    right for each of them; and the name is the same after a restart of the agent, which finds them by it."""
    return f"base-{wish[:12]}" if shares(resolution) else endpoint

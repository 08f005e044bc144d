"""Engine sharing: decides whether an endpoint runs on its own engines or on a base shared by endpoints. Pure."""

from __future__ import annotations

import hashlib

from pareta_agent.planning.request import PlanRequest
from pareta_registry.resolve import Resolution


def wish_of(resolution: Resolution, request: PlanRequest) -> str:
    """A fingerprint of a plan's inputs without the hardware: equal fingerprints may share a running engine."""
    model = resolution.model
    offered = [(variant.name, variant.artifact) for variant in model.variants]
    asked_for = model.id if shares(resolution) else resolution.alias.id
    return hashlib.sha256(repr((asked_for, offered, request)).encode()).hexdigest()


def shares(resolution: Resolution) -> bool:
    """A model with adapters has a single engine for all of its aliases, with an adapter or without."""
    return bool(resolution.model.adapters)


def engine_of(endpoint: str, resolution: Resolution, wish: str) -> str:
    """The engine's name. Endpoints share an engine when all inputs of the plans are equal. The name survives a restart
    of the agent, which adopts engines by name.
    """
    return f"base-{wish[:12]}" if shares(resolution) else endpoint

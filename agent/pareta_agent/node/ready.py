"""What the node is told of its plane, and what it tells when everything wanted is live."""

from __future__ import annotations

from dataclasses import dataclass

from pareta_agent.engine.view import EndpointView


@dataclass(frozen=True, slots=True)
class PlaneAddress:
    """`url` without a trailing slash. An `embedded` plane was started for this node and asks for nothing else."""

    url: str
    token: str
    embedded: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """`base_url` ends in /v1; `seconds` since the start of the program's work. `workarounds` are sentences about wrong
    computations that the plans avoid."""

    base_url: str
    metrics_url: str
    endpoints: tuple[EndpointView, ...]
    pid: int
    seconds: float
    workarounds: tuple[str, ...] = ()

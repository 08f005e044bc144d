"""Fleet view: frozen values of endpoints and replicas for other packages, replaced whole at each change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EndpointStatus = Literal["deploying", "live", "stopped", "failed", "cold"]


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One engine that takes requests. `name` is `<endpoint>/<index>`; `generation` grows with every start.

    `seats` is how many requests it works on at a time, None where that is not known. `since_s`: the moment of the
    monotonic clock at which it became ready.
    """

    name: str
    generation: int
    socket: Path
    engine_version: str | None = None
    seats: int | None = None
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint as callers meet it. `replicas` holds only those that are ready.

    `retry_after_s` is the expected wait until live (None when it will not come by waiting);
    `reason` is one sentence for the owner, never a path or a weights id. `engine` is what it runs on where several
    endpoints share one, and `served_as` the name that the engine knows it by where that is not `id`. `tokenize`:
    its callers may ask for the tokens of their texts. What is not `listed` is left out of the org's models. `greedy`:
    its engine samples at temperature 0 where a request sets none.
    `live_since_s`: the moment of the monotonic clock after which it was live without a break; only while it is live.
    """

    id: str
    org: str
    task: str
    alias: str
    status: EndpointStatus
    replicas: tuple[ReplicaView, ...] = ()
    max_model_len: int | None = None
    system_prompt: str | None = None
    tokenize: bool = False
    retry_after_s: int | None = None
    reason: str | None = None
    created_s: int = 0
    listed: bool = True
    engine: str | None = None
    served_as: str | None = None
    greedy: bool = False
    live_since_s: float = 0.0

    @property
    def runs_on(self) -> str:
        """The name that its engines have: in plans, starts and metrics."""
        return self.engine or self.id


@dataclass(frozen=True, slots=True)
class FleetView:
    """`complete`: what is not among `endpoints` does not exist; while a node starts it may only not be known yet."""

    endpoints: Mapping[str, EndpointView] = field(default_factory=dict)
    complete: bool = True


def engine_of(replica: str) -> str:
    """The engine's name, `runs_on` of its endpoints, in the name of one of its replicas."""
    return replica.rpartition("/")[0]


def at_engine(load: Mapping[str, int], engine: str) -> int:
    """The load of an engine: that of all its replicas, from a load by replica."""
    return sum(count for replica, count in load.items() if engine_of(replica) == engine)

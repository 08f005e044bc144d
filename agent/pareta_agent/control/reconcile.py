"""What must change so that this node runs what is wanted: pure, against the whole desired state each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Wanted:
    """One endpoint of the desired state. Equal values need no action; `state` is what the owner asked for."""

    id: str
    org: str
    task: str
    alias: str
    state: Literal["running", "stopped"]
    created_s: int = 0
    listed: bool = True
    objective: Literal["balanced", "latency", "throughput"] | None = None
    replicas: int | None = None
    inject_system_prompt: bool = True
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Deploy:
    """Resolve, plan and run it; an endpoint that already runs otherwise is replaced."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Stop:
    """End its engines and keep the endpoint, so that callers hear that it is stopped."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Forget:
    """End its engines; callers hear that there is no such endpoint."""

    endpoint: str


Action = Deploy | Stop | Forget


def reconcile(desired: Iterable[Wanted], acted: Mapping[str, Wanted]) -> tuple[Action, ...]:
    """The actions that turn `acted` (what was last carried out, by endpoint id) into `desired`.

    What frees hardware comes first. Applying the actions and reconciling again yields nothing.
    """
    wanted = {entry.id: entry for entry in desired}
    forget = [Forget(endpoint) for endpoint in sorted(acted) if endpoint not in wanted]
    changed = [entry for entry in wanted.values() if acted.get(entry.id) != entry]
    stop = [Stop(entry) for entry in changed if entry.state == "stopped"]
    deploy = [Deploy(entry) for entry in changed if entry.state == "running"]
    return (*forget, *stop, *deploy)

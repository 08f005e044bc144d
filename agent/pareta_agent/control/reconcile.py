"""Reconcile: compares the desired with the observed state and returns the changes. Pure; always the whole state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Wanted:
    """One endpoint of the desired state. Equal values need no action; `state` is the owner's choice."""

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
    """Resolve, plan and run the endpoint. Replaces an endpoint that runs with another configuration."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Stop:
    """End the endpoint's engines and keep the endpoint, so that callers receive "stopped"."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Forget:
    """End the endpoint's engines and remove the endpoint, so that callers receive "no such endpoint"."""

    endpoint: str


Action = Deploy | Stop | Forget


def reconcile(desired: Iterable[Wanted], acted: Mapping[str, Wanted]) -> tuple[Action, ...]:
    """The actions that turn `acted` (the state applied last, by endpoint id) into `desired`.

    Actions that free hardware come first. Reconciling again after all actions returns no action.
    """
    wanted = {entry.id: entry for entry in desired}
    forget = [Forget(endpoint) for endpoint in sorted(acted) if endpoint not in wanted]
    changed = [entry for entry in wanted.values() if acted.get(entry.id) != entry]
    stop = [Stop(entry) for entry in changed if entry.state == "stopped"]
    deploy = [Deploy(entry) for entry in changed if entry.state == "running"]
    return (*forget, *stop, *deploy)

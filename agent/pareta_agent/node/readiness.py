"""Readiness: decides whether a start has ended and whether the node is ready. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from pareta_agent.contract.fleet_view import EndpointView, FleetView
from pareta_agent.control.reconcile import Wanted
from pareta_agent.gateway.asgi.readyz import Readiness


@dataclass(frozen=True, slots=True)
class PlaneAddress:
    """`url` without a trailing slash. An `embedded` plane was started for this node and serves no other."""

    url: str
    token: str
    embedded: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """`base_url` ends in /v1; `seconds` since the start of the program's work. `workarounds` are sentences about wrong
    computations that the plans avoid.
    """

    base_url: str
    metrics_url: str
    endpoints: tuple[EndpointView, ...]
    pid: int
    seconds: float
    workarounds: tuple[str, ...] = ()


class StartState(Enum):
    IDLE = "idle"
    UNDER_WAY = "under way"
    LIVE = "live"
    FAILED = "failed"


def judge(wanted: Iterable[Wanted], view: FleetView) -> StartState:
    """IDLE without a running endpoint in the desired state; FAILED once every start has failed for good.

    LIVE once no endpoint is starting and at least a single endpoint is live, or sleeps until its next call.
    """
    running = [entry.id for entry in wanted if entry.state == "running"]
    states = [view.endpoints[name].status if name in view.endpoints else "deploying" for name in running]
    if not states:
        return StartState.IDLE
    if "deploying" in states:
        return StartState.UNDER_WAY
    return StartState.LIVE if {"live", "cold"} & set(states) else StartState.FAILED


def arrived(view: FleetView, kept: Collection[str]) -> bool:
    """Every replica kept from an earlier agent is live, and the remaining desired state is known."""
    live = {replica.name for endpoint in view.endpoints.values() for replica in endpoint.replicas}
    return view.complete and live >= set(kept)


def state_of(readiness: Readiness, *, stopping: bool, was_ready: bool) -> str:
    """The node's state for `pareta-agent status`, in agreement with `/readyz`."""
    if stopping:
        return "draining"
    if readiness.status == "not ready":
        return "not ready" if was_ready else "starting"
    return "ready" if readiness.status == "ok" else "degraded"


def not_ready(wanted: Iterable[Wanted], view: FleetView, *, lease: bool, metering: bool) -> list[str]:
    """The reasons against traffic to this node, for `/readyz`; empty when ready."""
    reasons = []
    if not lease:
        reasons.append("no lease with the control plane")
    if not metering:
        reasons.append("usage cannot be recorded")
    running = [entry.id for entry in wanted if entry.state == "running"]
    if running and not any(
        view.endpoints[n].status in ("live", "cold") for n in running if n in view.endpoints
    ):
        reasons.append("no endpoint is live yet")
    return reasons

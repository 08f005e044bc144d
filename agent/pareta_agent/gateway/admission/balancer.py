"""Load balancer: selects a replica by least outstanding requests and prefix affinity.

`pick` is pure. The prompt's prefix is read only if there are several replicas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView, ReplicaView
from pareta_agent.contract.grant import KeyGrant
from pareta_agent.gateway.admission.rules import unavailable
from pareta_agent.gateway.admission.state import AdmissionState, ConcurrencyCap
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.ports import Target

PREFIX_CHARS: Final = 1024
MIN_PREFIX_CHARS: Final = 512  # a shorter prompt is read again sooner than moved to the replica that read it
LIKELY_SLOTS: Final = 32
LONGEST_WAIT_S: Final = 60


def pick(
    endpoint: EndpointView,
    load: Mapping[str, int],
    cap: ConcurrencyCap,
    preferred: str = "",
    without: str = "",
) -> ReplicaView | None:
    """The preferred replica, else the first of the least loaded.

    The preferred replica may exceed the least load by an eighth of the sequence slots, and by at least 2.

    None if every replica but `without` is at the concurrency cap.
    """
    free = [r for r in endpoint.replicas if r.name != without and load.get(r.name, 0) < cap.of(r)]
    if len(free) < 2:
        return free[0] if free else None
    least = min(free, key=lambda r: load.get(r.name, 0))
    liked = next((r for r in free if r.name == preferred), least)
    slack = max(2, (liked.seats or LIKELY_SLOTS) // 8)
    return liked if load.get(liked.name, 0) - load.get(least.name, 0) <= slack else least


def prompt_prefix(prompt: Any) -> str:
    """The first characters of a prompt in any route's format, roles included."""
    found: list[str] = []
    rest, size = [prompt], 0
    while rest and size < PREFIX_CHARS:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            rest.extend(reversed(value[:PREFIX_CHARS]))
        else:
            found.append(str(value)[: PREFIX_CHARS - size])
            size += len(found[-1]) + 1
    return "\n".join(found)


def select_replica(
    state: AdmissionState, endpoint: EndpointView, grant: KeyGrant, request: InferenceRequest, route: Route
) -> Target | Problem:
    """The target of an authorized request, or the refusal."""
    if state.by_key.get(grant.key_id, 0) >= state.settings.max_in_flight_per_key:
        return Problem("too_many_requests")
    if route.vocabulary and not endpoint.tokenize:
        return Problem("route_unsupported")
    if (poisoned := state.quarantine.refusal(endpoint, request)) is not None:
        return poisoned
    if endpoint.status != "live" or not endpoint.replicas:
        return unavailable(endpoint)
    key, preferred = 0, ""
    if len(endpoint.replicas) > 1:
        begins = prompt_prefix(request.fields.get(route.prompt))
        if len(begins) >= MIN_PREFIX_CHARS:
            # Python's own hash is keyed by the process, so no caller can aim at another org's beginnings.
            key = hash((endpoint.org, begins))
            preferred = state.affinity.preferred(key)
    replica = pick(endpoint, state.load, state.cap, preferred)
    if replica is None:
        return Problem("endpoint_busy", retry_after_s=wait_s(state, endpoint))
    if not state.deps.spool.can_admit():
        return Problem("metering_unavailable")
    if key:
        state.affinity.record(key, replica.name)
    return Target(endpoint, replica)


def select_other_replica(state: AdmissionState, target: Target) -> Target | None:
    """The next target of a request after the replica was lost before any part of the answer."""
    endpoint = state.deps.fleet_view().endpoints.get(target.endpoint.id)
    if endpoint is None or endpoint.status != "live":
        return None
    replica = pick(endpoint, state.load, state.cap, without=target.replica.name)
    return Target(endpoint, replica) if replica is not None else None


def wait_s(state: AdmissionState, endpoint: EndpointView) -> int:
    """Seconds until a full endpoint has capacity again: half of the shortest mean request duration of the replicas."""
    taken = [state.pace[r.name] for r in endpoint.replicas if r.name in state.pace]
    return min(LONGEST_WAIT_S, max(1, math.ceil(min(taken) / 2))) if taken else 1

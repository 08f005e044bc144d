"""Wake queue: calls that wait, in order and for a bounded time, for an endpoint that starts or wakes.

A queued call is not admitted: no credit is reserved and no record is written. The queue polls the fleet's view; how an
endpoint wakes is unknown here.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.gateway.admission.rules import STARTING, unavailable
from pareta_agent.gateway.api.request_body import InferenceRequest
from pareta_agent.gateway.ports import GatewayDeps
from pareta_agent.gateway.settings import GatewaySettings

LOOK_S: Final = 0.02
WAKE_S: Final = 1.0


class Waiter(Protocol):
    """A queued call: `proceed` once the endpoint is live, `send_keepalive` for the caller of a stream."""

    def proceed(self) -> None: ...

    def send_keepalive(self) -> None: ...

    def refuse(self, problem: Problem) -> None: ...


@dataclass(slots=True)
class _QueuedCall:
    endpoint: str
    org: str
    body_bytes: int
    until_s: float
    keepalive_s: float


class WakeQueue:
    """A queue for each endpoint. Calls use `enter` and `leave`; a timer does the rest."""

    def __init__(self, settings: GatewaySettings, deps: GatewayDeps) -> None:
        self._settings = settings
        self._deps = deps
        self._queued: dict[Waiter, _QueuedCall] = {}
        self._expected: dict[Waiter, tuple[str, float]] = {}
        self._wake_s: dict[str, float] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.waiting: Counter[str] = Counter()
        self.by_endpoint: Counter[str] = Counter()
        self.by_org: Counter[str] = Counter()

    def enter(self, waiter: Waiter, request: InferenceRequest) -> Problem | None:
        """Wakes the endpoint and queues the call, or returns the refusal.

        A call that returns keeps the first deadline.
        """
        endpoint = self._deps.fleet_view().endpoints.get(request.model)
        if endpoint is None:
            return STARTING  # the fleet is not complete yet: there is no queue for this endpoint
        now_s, longest_s = self._deps.clock.mono_s(), self._settings.hold_s
        until_s = self.expect(waiter, endpoint.id)
        self._wake(endpoint.id, now_s)
        if now_s + (endpoint.retry_after_s or 0) > until_s or longest_s <= 0:
            return unavailable(endpoint)  # a wait would be for nothing
        if self._full(endpoint, request.body_bytes):
            return Problem("endpoint_busy", retry_after_s=endpoint.retry_after_s)
        keepalive_s = now_s + self._settings.comfort_s if request.stream else math.inf
        self._queued[waiter] = queued = _QueuedCall(
            endpoint.id, endpoint.org, request.body_bytes, until_s, keepalive_s
        )
        self._count(queued, 1)
        self._look_later()
        return None

    def expect(self, waiter: Waiter, endpoint: str) -> float:
        """Counts the call as `waiting` for the endpoint, queued or not, until the call leaves; returns the deadline."""
        if waiter not in self._expected:
            self._expected[waiter] = endpoint, self._deps.clock.mono_s() + self._settings.hold_s
            self.waiting[endpoint] += 1
        return self._expected[waiter][1]

    def leave(self, waiter: Waiter) -> None:
        """Removes a call that was admitted, refused or abandoned."""
        self._take_out(waiter)
        if waiter in self._expected:
            endpoint, _ = self._expected.pop(waiter)
            self.waiting[endpoint] -= 1
            if not self.waiting[endpoint]:
                del self.waiting[endpoint]
                self._wake_s.pop(endpoint, None)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._queued

    def refuse_all(self, problem: Problem) -> None:
        for waiter in list(self._queued):
            self._take_out(waiter)
            waiter.refuse(problem)

    def _full(self, endpoint: EndpointView, body_bytes: int) -> bool:
        settings = self._settings
        return (
            self.by_endpoint[endpoint.id] >= settings.queue_per_endpoint
            or self.by_org[endpoint.org] >= settings.queue_per_org
            or self._bytes + body_bytes > settings.hold_bytes
        )

    def _count(self, queued: _QueuedCall, by: int) -> None:
        self._bytes += by * queued.body_bytes
        self._deps.metrics.inc("pareta_requests_held", queued.endpoint, by=by)
        for counter, name in ((self.by_endpoint, queued.endpoint), (self.by_org, queued.org)):
            counter[name] += by
            if not counter[name]:
                del counter[name]

    def _take_out(self, waiter: Waiter) -> _QueuedCall | None:
        queued = self._queued.pop(waiter, None)
        if queued is not None:
            self._count(queued, -1)
        return queued

    def _look_later(self) -> None:
        if self._timer is None and self._queued:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Handles the calls in order of arrival: admit, refuse, or send a keepalive comment; wakes cold endpoints."""
        self._timer = None
        endpoints, now_s = self._deps.fleet_view().endpoints, self._deps.clock.mono_s()
        for waiter, queued in list(self._queued.items()):
            self._judge(waiter, queued, endpoints.get(queued.endpoint), now_s)
        self._look_later()

    def _judge(
        self, waiter: Waiter, queued: _QueuedCall, endpoint: EndpointView | None, now_s: float
    ) -> None:
        if endpoint is None or endpoint.status in ("stopped", "failed") or now_s > queued.until_s:
            self._take_out(waiter)
            waiter.refuse(unavailable(endpoint) if endpoint else Problem("endpoint_not_found"))
        elif endpoint.status == "live" and endpoint.replicas:
            self._take_out(waiter)
            waiter.proceed()
        else:
            if endpoint.status == "cold" and now_s >= self._wake_s.get(endpoint.id, 0.0):
                self._wake(endpoint.id, now_s)
            if now_s >= queued.keepalive_s:
                queued.keepalive_s = now_s + self._settings.comfort_s
                waiter.send_keepalive()

    def _wake(self, endpoint: str, now_s: float) -> None:
        """Requests the wake again while calls wait, so that a lost request costs delay only."""
        self._wake_s[endpoint] = now_s + WAKE_S
        self._deps.wake(endpoint)

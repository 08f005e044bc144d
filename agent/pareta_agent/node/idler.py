"""Puts endpoints to sleep that nobody has called for a while: their devices are free until the next call wakes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from pareta_agent.clock import Clock
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.view import EndpointView
from pareta_agent.telemetry.events import Emit, Event

LOOK_S = 1.0
LimitS = Callable[[EndpointView], float | None]
"""How long an endpoint may idle, None for ever."""


def due(
    endpoints: Collection[EndpointView],
    live_since_s: Mapping[str, float],
    used_s: Callable[[str], float],
    now_s: float,
    limit_s: LimitS,
) -> list[str]:
    """Live endpoints none of whose replicas was used for their limit, nor became live since. Pure.

    Endpoints that share an engine are due together.
    """

    def idle(e: EndpointView) -> bool:
        limit = limit_s(e)
        used = max(live_since_s[e.id], *(used_s(r.name) for r in e.replicas))
        return limit is not None and now_s - used > limit

    busy = {e.runs_on for e in endpoints if e.status == "deploying" or (e.status == "live" and not idle(e))}
    return [e.id for e in endpoints if e.status == "live" and e.runs_on not in busy]


class Idler:
    """`used_s` is when a replica, by name, was last busy: now while it works, -inf when it never was."""

    def __init__(
        self, fleet: Fleet, used_s: Callable[[str], float], limit_s: LimitS, clock: Clock, emit: Emit
    ) -> None:
        self._fleet, self._used_s, self._limit_s = fleet, used_s, limit_s
        self._clock, self._emit = clock, emit
        self._live_since_s: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        now_s, endpoints = self._clock.mono_s(), self._fleet.view().endpoints.values()
        live = [e.id for e in endpoints if e.status == "live"]
        self._live_since_s = {name: self._live_since_s.get(name, now_s) for name in live}
        for endpoint in due(endpoints, self._live_since_s, self._used_s, now_s, self._limit_s):
            idle_s = self._limit_s(self._fleet.view().endpoints[endpoint])
            self._emit(Event("endpoint_slept", "info", {"endpoint": endpoint, "idle_s": idle_s}))
            await self._fleet.sleep(endpoint)

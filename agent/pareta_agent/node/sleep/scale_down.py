"""Idle scaler: scales idle endpoints to zero and frees the devices until the next call wakes the endpoint.

An engine that supports sleep keeps its weights in host memory while there is room. A sleeping engine ends after
`asleep_s`, or when the host runs short. Any other engine ends at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping

from pareta_agent.clock import Clock
from pareta_agent.contract.fleet_view import EndpointView
from pareta_agent.engine.fleet import Fleet
from pareta_agent.hardware.host import Host, read_host
from pareta_agent.planning.plan import Plan
from pareta_agent.telemetry.events import Emit, Event

LOOK_S = 1.0
_SPARED_PER_CENT, _SHORT_PER_CENT = 10, 5
LimitS = Callable[[EndpointView], float | None]
"""How long an endpoint may idle, None for ever."""


def due(
    endpoints: Collection[EndpointView],
    used_s: Callable[[str], float],
    waiting: Callable[[str], int],
    now_s: float,
    limit_s: LimitS,
) -> list[str]:
    """Live endpoints idle for longer than the timeout, since the engine's last use and since becoming live, without
    waiting calls. Pure.

    Endpoints that share an engine are due together.
    """

    def idle(e: EndpointView) -> bool:
        limit = limit_s(e)
        since_s = max(e.live_since_s, used_s(e.runs_on))
        return limit is not None and not waiting(e.id) and now_s - since_s > limit

    def busy(e: EndpointView) -> bool:
        return e.status == "deploying" or (e.status == "live" and not idle(e))

    awake = {e.runs_on for e in endpoints if busy(e)}
    return [e.id for e in endpoints if e.status == "live" and e.runs_on not in awake]


def with_room(engines: Iterable[str], plans: Mapping[str, Plan], host: Host) -> frozenset[str]:
    """The engines whose weights together fit into host memory, in order; sleeping weights are not swappable. Pure."""
    left_bytes = host.memory_available_bytes - host.memory_bytes * _SPARED_PER_CENT // 100
    found = set[str]()
    for engine in dict.fromkeys(engines):
        if engine in plans and plans[engine].all_weights_bytes <= left_bytes:
            left_bytes -= plans[engine].all_weights_bytes
            found.add(engine)
    return frozenset(found)


def overslept(since_s: Mapping[str, float], now_s: float, limit_s: float, host: Host) -> list[str]:
    """The sleeping engines past the limit; otherwise, when the host runs short of memory, the longest asleep. Pure."""
    found = [engine for engine, since in since_s.items() if now_s - since > limit_s]
    short = host.memory_available_bytes < host.memory_bytes * _SHORT_PER_CENT // 100
    return found or (sorted(since_s, key=lambda engine: since_s[engine])[:1] if short else [])


class IdleScaler:
    """`plans` returns each engine's plan by name. `used_s` returns the time of an engine's last work: now while busy,
    -inf for never. `asleep_s` limits weights in host memory.
    """

    def __init__(
        self,
        fleet: Fleet,
        plans: Callable[[], Mapping[str, Plan]],
        used_s: Callable[[str], float],
        limit_s: LimitS,
        asleep_s: float,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._fleet, self._plans, self._used_s = fleet, plans, used_s
        self._limit_s, self._asleep_s = limit_s, asleep_s
        self._clock, self._emit = clock, emit

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            await self._put_to_sleep()
            await self._end_sleepers()

    async def _put_to_sleep(self) -> None:
        now_s, endpoints = self._clock.mono_s(), self._fleet.view().endpoints
        found = due(endpoints.values(), self._used_s, self._fleet.waiting, now_s, self._limit_s)
        if not found:
            return
        engines = [endpoints[name].runs_on for name in found] if self._asleep_s > 0 else []
        keep = with_room(engines, self._plans(), read_host())
        # All at once, before another task runs: an end may take long, and a call may arrive meanwhile.
        await asyncio.gather(*[self._sleep(endpoints[name], keep) for name in found])

    def _sleep(self, endpoint: EndpointView, keep: Container[str]) -> Awaitable[None]:
        fields = {"endpoint": endpoint.id, "idle_s": self._limit_s(endpoint)}
        self._emit(Event("endpoint_slept", "info", fields))
        return self._fleet.sleep(endpoint.id, keep=endpoint.runs_on in keep)

    async def _end_sleepers(self) -> None:
        now_s, kept_bytes = self._clock.mono_s(), self._fleet.asleep_bytes()
        if not kept_bytes:
            return
        since_s = {engine: self._fleet.asleep_since_s(engine) for engine in kept_bytes}
        for engine in overslept(since_s, now_s, self._asleep_s, read_host()):
            fields = {"endpoint": engine, "asleep_s": round(now_s - since_s[engine])}
            self._emit(Event("sleeper_ended", "info", {**fields, "freed_bytes": kept_bytes[engine]}))
            await self._fleet.evict(engine)

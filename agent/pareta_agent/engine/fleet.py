"""Fleet: starts and ends the engines of this node by desired state, and publishes a frozen view of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pareta_agent.clock import Clock
from pareta_agent.contract.fleet_view import EndpointView, FleetView
from pareta_agent.engine.adapter_endpoints import AdapterEndpoints
from pareta_agent.engine.fleet_context import Changed, FleetContext
from pareta_agent.engine.process import adoption
from pareta_agent.engine.process.gpu_memory import ReadGpus
from pareta_agent.engine.process.process_record import Intents
from pareta_agent.engine.replica.replica import Drain
from pareta_agent.engine.replica.start_history import History, Summary
from pareta_agent.engine.replica.start_phases import ColdStartReport, OnColdStart
from pareta_agent.engine.replica_set import Endpoint
from pareta_agent.engine.spec import AdapterEndpointSpec, EngineSettings, EngineSpec
from pareta_agent.engine.standby import standby
from pareta_agent.engine.standby.standby_pool import StandbyPool
from pareta_agent.hardware.cores import Cores, read_cores
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.telemetry.events import Emit

_KILL_MARGIN_S = 20.0


class Fleet:
    """Must be made on the event loop that it runs on, by the only agent that uses `settings.state_dir`."""

    def __init__(
        self,
        settings: EngineSettings,
        clock: Clock,
        emit: Emit,
        on_cold_start: OnColdStart,
        read_gpus: ReadGpus | None = None,
        read_cores: Callable[[], Cores] = read_cores,
    ) -> None:
        self._emit = emit
        self._report = on_cold_start
        self._history = History(settings.state_dir / "starts.json")
        self._changed = Changed()
        self._intents = Intents(settings.state_dir)
        self.standbys = StandbyPool(emit)
        read_gpus = read_gpus or (lambda: read_inventory().gpus)
        self.adoptable = adoption.AdoptableEngines(read_gpus, clock, self._changed)
        self._context = FleetContext(
            settings,
            self._intents,
            clock,
            emit,
            self._cold_started,
            self._changed,
            self.standbys,
            lambda _replica: 0,
            self.adoptable,
            read_gpus,
            read_cores,
        )
        self._endpoints: dict[str, Endpoint] = {}
        self._adapter_endpoints = AdapterEndpoints(self._context)
        self._shown: dict[str, EndpointView] = {}
        self._waiting: Callable[[str], int] = lambda _endpoint: 0
        self._complete = False
        self.reaped = False

    async def want(self, spec: EngineSpec) -> None:
        """This endpoint shall run so; the same wish again changes nothing. Returns at once: watch the view."""
        self.wish(spec)

    def wish(self, spec: EngineSpec) -> None:
        """`want` for callbacks: heard before anybody can read another view."""
        self._shown.pop(spec.endpoint, None)
        self._adapter_endpoints.mark_awake(spec.endpoint)
        endpoint = self._endpoints.get(spec.endpoint)
        if endpoint is None:
            endpoint = self._endpoints[spec.endpoint] = Endpoint(spec, self._context, self._history)
        endpoint.want(spec)

    async def attach(self, spec: AdapterEndpointSpec) -> None:
        """This endpoint shall run on an engine that is wanted already, and `shared`; the same again changes nothing."""
        self._shown.pop(spec.endpoint, None)
        if await self._adapter_endpoints.add(spec, self._endpoints[spec.engine].view):
            self.wake(spec.endpoint)
            self._changed()

    def endpoints_on(self, engine: str) -> list[str]:
        """The endpoints that run on a shared engine."""
        return self._adapter_endpoints.on(engine)

    async def remove(self, endpoint: str, drain: Drain | None = None, drain_s: float | None = None) -> None:
        """Takes the endpoint out of the view's replicas, waits for `drain` at most `drain_s`, ends its engines.

        Returns when nothing of it runs; a shared engine goes on. An unknown endpoint is already as wanted.
        """
        if endpoint in self._adapter_endpoints:
            await self._adapter_endpoints.remove(endpoint)
        elif found := self._endpoints.get(endpoint):
            found.remove(drain, self.settings.drain_s if drain_s is None else drain_s)
            await found.settled()

    @property
    def settings(self) -> EngineSettings:
        return self._context.settings

    def use_interpreter(self, python: Path, version: str) -> None:
        """Starts from now on run in this interpreter; what runs already keeps its own."""
        self._context.settings = replace(self._context.settings, python=python, version=version)

    def expect(self, replicas: Sequence[str]) -> None:
        """All that are to run here, by name: without GPUs they share the host's cores, each from its next start on."""
        self._context.expected = tuple(replicas)

    def watch(self, in_flight: Callable[[str], int], waiting: Callable[[str], int] | None = None) -> None:
        """Gives the watchdogs the number of requests that a replica, by name, holds at the front: what they judge by.

        `waiting` is the number of calls that wait for an endpoint, by its id.
        """
        self._context.in_flight = self.adoptable.in_flight = in_flight
        self._waiting = waiting or self._waiting

    def waiting(self, endpoint: str) -> int:
        """Calls that wait for the endpoint."""
        return self._waiting(endpoint)

    def sleep(
        self, endpoint: str, drain: Drain | None = None, drain_s: float | None = None, *, keep: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Gives an idle endpoint's devices back: drains and ends its engines; `cold` until `wake` or `want`.

        The endpoint is cold when this returns, and what it returns waits for the engines' end. While a call waits for
        an endpoint of its engine, nothing happens. `keep`: engines that can sleep do so instead of ending, with their
        weights in the host's memory. A shared engine sleeps when all of its endpoints were put to sleep.
        """
        engine = self._adapter_endpoints.engine_of(endpoint)
        found = self._endpoints.get(engine)
        waited_for = any(self._waiting(name) for name in (endpoint, *self.endpoints_on(engine)))
        if found and not waited_for and self._adapter_endpoints.mark_asleep(endpoint):
            found.sleep(drain, self.settings.drain_s if drain_s is None else drain_s, keep=keep)
        return found.settled() if found else asyncio.sleep(0)

    def wake(self, endpoint: str) -> None:
        """Starts a cold endpoint again, from a standby where there is one; any other is left as it is."""
        engine = self._adapter_endpoints.engine_of(endpoint)
        self._adapter_endpoints.mark_awake(engine)
        if found := self._endpoints.get(engine):
            found.wake()

    def retry(self, endpoint: str) -> None:
        """Starts again an endpoint that was given up."""
        self._adapter_endpoints.retry(endpoint)
        if found := self._endpoints.get(self._adapter_endpoints.engine_of(endpoint)):
            found.retry()

    def set_status(self, view: EndpointView) -> None:
        """Shows an endpoint that has no engine (stopped, or failed before there could be one)."""
        self._shown[view.id] = view
        self._changed()

    def forget(self, endpoint: str) -> None:
        """Drops from the view an endpoint that no longer exists; its engines must have been removed."""
        self._shown.pop(endpoint, None)
        self._endpoints.pop(endpoint, None)
        self._changed()

    def start_times(self) -> tuple[Summary, ...]:
        """Times of the last starts, by cause."""
        return self._history.summaries()

    def view(self) -> FleetView:
        views = {name: found.view() for name, found in self._endpoints.items() if not found.shared}
        return FleetView({**views, **self._adapter_endpoints.views(), **self._shown}, self._complete)

    def is_reusable(self, engine: str) -> bool:
        """True where engines of that name run, or sleep so that one more endpoint on them wakes them."""
        return self.runs(engine) or engine in self.asleep_bytes()

    def runs(self, engine: str) -> bool:
        """True where engines of that name hold their devices, or are about to."""
        found = self._endpoints.get(engine)
        return found is not None and found.view().status in ("deploying", "live")

    def sleeps(self, engine: str) -> bool:
        """True where engines of that name gave their devices up until they are called."""
        found = self._endpoints.get(engine)
        return found is not None and found.view().status == "cold"

    def asleep_bytes(self) -> dict[str, int]:
        """The engines that sleep, by name, with what their weights have of the host's memory."""
        found = {name: each.asleep_bytes for name, each in self._endpoints.items()}
        return {name: kept for name, kept in found.items() if kept is not None}

    def asleep_since_s(self, engine: str) -> float:
        """The moment of the monotonic clock at which an engine that sleeps was put to sleep."""
        return self._endpoints[engine].asleep_since_s

    def is_terminating(self, engine: str) -> bool:
        """True where engines of that name gave their devices up, or will, and something of them is still there."""
        found = self._endpoints.get(engine)
        return found is not None and found.is_terminating

    async def evict(self, engine: str) -> None:
        """Ends engines that sleep; returns when none is terminating. Those that run, or were woken, are left alone."""
        if (found := self._endpoints.get(engine)) and found.is_terminating:
            found.sleep(None, 0.0, keep=False)
            await found.settled()

    def know_all(self) -> None:
        """Every endpoint that is wanted here was named: one that is not in the view does not exist."""
        self._complete = True

    @property
    def revision(self) -> int:
        return self._changed.revision

    async def changed(self, since: int) -> int:
        """Waits until the fleet's revision is past `since`, and answers it: no change can be missed."""
        return await self._changed.since(since)

    async def reap_orphans(self) -> int:
        """Ends what an earlier agent of this home left running, and sweeps its files; how many processes.

        With `settings.adopt`, engines that still serve are spared: `want` takes them over, `end_adoptable` ends
        those that nobody wanted.
        """
        ended = await adoption.reap(self.settings, self._intents, self.adoptable, self._emit)
        standby.sweep(self.settings)
        self.reaped = True
        return ended

    async def adoptable_plan(self, endpoint: str, wish: str) -> adoption.AdoptablePlan | None:
        """The plan of the endpoint's spared engines, if it is for this wish; else they are ended, so that a new plan
        finds their memory free."""
        found = self.adoptable.plan(endpoint, wish)
        if found is None:
            await self.adoptable.end(self.settings, lambda name: name == endpoint)
        return found

    async def end_adoptable(self, keep: Container[str] = ()) -> int:
        """Ends the spared engines of every endpoint but `keep` that no wish has claimed; how many."""
        return await self.adoptable.end(self.settings, lambda name: name not in keep)

    @property
    def kept(self) -> frozenset[str]:
        """Replicas of an earlier agent, by name, that serve on: none of them was ended here."""
        return self.adoptable.kept

    async def leave(self) -> None:
        """Lets go of everything as it runs, for another agent of this home to take over; what only starts is ended.

        Nothing is wanted afterwards; `reap_orphans` and new wishes take it back.
        """
        await self._adapter_endpoints.leave()
        left, self._endpoints = self._endpoints, {}
        await asyncio.gather(*(endpoint.leave() for endpoint in left.values()), self.standbys.leave())
        self._complete = self.reaped = False
        self.adoptable.forget()
        self._changed()

    def hurry(self) -> None:
        """Ends all patience: engines that drain or stop are killed now."""
        for endpoint in self._endpoints.values():
            endpoint.kill()

    async def close(self, deadline_s: float, drain: Drain | None = None) -> None:
        """Drains and ends every engine; past `deadline_s` their groups are killed. Nothing runs afterwards."""
        await self._adapter_endpoints.close()
        stops = asyncio.gather(*(self.remove(name, drain, deadline_s) for name in self._endpoints))
        done, _ = await asyncio.wait({stops}, timeout=deadline_s + _KILL_MARGIN_S)
        if not done:
            self.hurry()
            await asyncio.wait({stops}, timeout=_KILL_MARGIN_S)
        for endpoint in self._endpoints.values():
            await endpoint.close()
        await self.standbys.close()
        await self.end_adoptable()

    def _cold_started(self, report: ColdStartReport) -> None:
        self._history.add(report)
        self._report(report)

"""Fleet: starts and ends the engines of this node by desired state, and publishes a frozen view of all engines."""

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
    """Requires the event loop that later runs the fleet; only one agent at a time uses `settings.state_dir`."""

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
        """Sets the endpoint's desired spec; an equal spec changes nothing. Returns at once: watch the view."""
        self.wish(spec)

    def wish(self, spec: EngineSpec) -> None:
        """`want` for callbacks: takes effect before any other reader of the view runs."""
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
        """Takes the endpoint out of the view's replicas, waits for `drain` at most `drain_s`, ends the endpoint's
        engines.

        Returns when nothing of the endpoint runs; a shared engine goes on. An unknown endpoint is left as is.
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
        """Starts from now on use this interpreter; running engines keep the old interpreter."""
        self._context.settings = replace(self._context.settings, python=python, version=version)

    def expect(self, replicas: Sequence[str]) -> None:
        """Names all replicas that are to run here. Without GPUs, each shares the cores from the next start on."""
        self._context.expected = tuple(replicas)

    def watch(self, in_flight: Callable[[str], int], waiting: Callable[[str], int] | None = None) -> None:
        """Gives the watchdogs the number of requests in flight at the gateway for a replica, by name.

        `waiting` is the number of calls that wait for an endpoint, by id.
        """
        self._context.in_flight = self.adoptable.in_flight = in_flight
        self._waiting = waiting or self._waiting

    def waiting(self, endpoint: str) -> int:
        """Calls that wait for the endpoint."""
        return self._waiting(endpoint)

    def sleep(
        self, endpoint: str, drain: Drain | None = None, drain_s: float | None = None, *, keep: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Frees an idle endpoint's devices: drains and ends the engines; `cold` until `wake` or `want`.

        The endpoint is cold on return; the returned awaitable waits for the engines' end. While a call waits for an
        endpoint of the same engine, nothing happens. `keep`: engines that can sleep do so instead of ending, with
        weights in the host's memory. A shared engine sleeps when all endpoints on the engine were put to sleep.
        """
        engine = self._adapter_endpoints.engine_of(endpoint)
        found = self._endpoints.get(engine)
        waited_for = any(self._waiting(name) for name in (endpoint, *self.endpoints_on(engine)))
        if found and not waited_for and self._adapter_endpoints.mark_asleep(endpoint):
            found.sleep(drain, self.settings.drain_s if drain_s is None else drain_s, keep=keep)
        return found.settled() if found else asyncio.sleep(0)

    def wake(self, endpoint: str) -> None:
        """Starts a cold endpoint again, from a standby if available; any other endpoint is left as is."""
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
        """Shows an endpoint without an engine (stopped, or failed before an engine existed)."""
        self._shown[view.id] = view
        self._changed()

    def forget(self, endpoint: str) -> None:
        """Drops from the view an endpoint that no longer exists; the engines must have been removed."""
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
        """True where engines of that name run, or sleep so that another endpoint on the engines causes a wake."""
        return self.runs(engine) or engine in self.asleep_bytes()

    def runs(self, engine: str) -> bool:
        """True where engines of that name hold devices, or are about to."""
        found = self._endpoints.get(engine)
        return found is not None and found.view().status in ("deploying", "live")

    def sleeps(self, engine: str) -> bool:
        """True where engines of that name gave up all devices until the next call."""
        found = self._endpoints.get(engine)
        return found is not None and found.view().status == "cold"

    def asleep_bytes(self) -> dict[str, int]:
        """Sleeping engines by name, with the host memory that each engine's weights occupy, in bytes."""
        found = {name: each.asleep_bytes for name, each in self._endpoints.items()}
        return {name: kept for name, kept in found.items() if kept is not None}

    def asleep_since_s(self, engine: str) -> float:
        """The moment of the monotonic clock at which an engine that sleeps was put to sleep."""
        return self._endpoints[engine].asleep_since_s

    def is_terminating(self, engine: str) -> bool:
        """True where engines of that name gave up all devices, or will, and some process still exists."""
        found = self._endpoints.get(engine)
        return found is not None and found.is_terminating

    async def evict(self, engine: str) -> None:
        """Ends sleeping engines; returns when none is terminating. Running or woken engines are left alone."""
        if (found := self._endpoints.get(engine)) and found.is_terminating:
            found.sleep(None, 0.0, keep=False)
            await found.settled()

    def know_all(self) -> None:
        """Marks the desired state complete: an endpoint absent from the view does not exist."""
        self._complete = True

    @property
    def revision(self) -> int:
        return self._changed.revision

    async def changed(self, since: int) -> int:
        """Waits until the fleet's revision is past `since`, and returns the new revision: no change can be missed."""
        return await self._changed.since(since)

    async def reap_orphans(self) -> int:
        """Ends processes that an earlier agent of this home left running, and sweeps the files; returns the process
        count.

        With `settings.adopt`, serving engines are spared: `want` takes an engine over, `end_adoptable` ends the rest.
        """
        ended = await adoption.reap(self.settings, self._intents, self.adoptable, self._emit)
        standby.sweep(self.settings)
        self.reaped = True
        return ended

    async def adoptable_plan(self, endpoint: str, wish: str) -> adoption.AdoptablePlan | None:
        """The plan of the endpoint's spared engines, if made for the same `wish`. Otherwise ends the spared engines,
        so that a new plan finds the memory free.
        """
        found = self.adoptable.plan(endpoint, wish)
        if found is None:
            await self.adoptable.end(self.settings, lambda name: name == endpoint)
        return found

    async def end_adoptable(self, keep: Container[str] = ()) -> int:
        """Ends unclaimed spared engines of every endpoint but `keep`; returns the number."""
        return await self.adoptable.end(self.settings, lambda name: name not in keep)

    @property
    def kept(self) -> frozenset[str]:
        """Replicas of an earlier agent, by name, that serve on: none was ended here."""
        return self.adoptable.kept

    async def leave(self) -> None:
        """Leaves running engines for another agent of this home to adopt; engines that only start are ended.

        No endpoint is desired afterwards; `reap_orphans` and new specs take the engines back.
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
        """Drains and ends every engine; past `deadline_s` the process groups are killed. Nothing runs afterwards."""
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

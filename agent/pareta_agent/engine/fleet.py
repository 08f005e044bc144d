"""All engines of this node, as the rest of the agent meets them: say what is wanted, read a frozen view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.engine import orphans
from pareta_agent.engine.endpoint import Endpoint
from pareta_agent.engine.gpumem import ReadGpus
from pareta_agent.engine.guest import Guest
from pareta_agent.engine.history import History, Summary
from pareta_agent.engine.intent import Intents
from pareta_agent.engine.phases import ColdStart, OnColdStart
from pareta_agent.engine.replica import Drain
from pareta_agent.engine.spec import EngineSettings, EngineSpec, GuestSpec
from pareta_agent.engine.standby_pool import StandbyPool
from pareta_agent.engine.surroundings import Changed, Surroundings
from pareta_agent.engine.view import EndpointView, FleetView
from pareta_agent.hardware.cores import Cores, read_cores
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.planning.plan import Plan
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
        self._pool = StandbyPool(emit)
        read_gpus = read_gpus or (lambda: read_inventory().gpus)
        self.survivors = orphans.Survivors(read_gpus, clock, self._changed)
        self._around = Surroundings(
            settings,
            self._intents,
            clock,
            emit,
            self._cold_started,
            self._changed,
            self._pool,
            lambda _replica: 0,
            self.survivors,
            read_gpus,
            read_cores,
        )
        self._endpoints: dict[str, Endpoint] = {}
        self._guests: dict[str, Guest] = {}
        self._shown: dict[str, EndpointView] = {}
        self._complete = False
        self.reaped = False

    async def want(self, spec: EngineSpec) -> None:
        """This endpoint shall run so; the same wish again changes nothing. Returns at once: watch the view."""
        self.wish(spec)

    def wish(self, spec: EngineSpec) -> None:
        """`want` for callbacks: heard before anybody can read another view."""
        self._shown.pop(spec.endpoint, None)
        for name in self.guests(spec.endpoint):
            self._guests[name].asleep = False
        endpoint = self._endpoints.get(spec.endpoint)
        if endpoint is None:
            endpoint = self._endpoints[spec.endpoint] = Endpoint(spec, self._around, self._history)
        endpoint.want(spec)

    async def lodge(self, spec: GuestSpec) -> None:
        """This endpoint shall run on an engine that is wanted already, and `shared`; the same again changes nothing."""
        self._shown.pop(spec.endpoint, None)
        guest = self._guests.get(spec.endpoint)
        if guest is not None and guest.spec == spec:
            return
        if guest is not None:
            await self._part(spec.endpoint)
        host = self._endpoints[spec.engine]
        self._guests[spec.endpoint] = Guest(spec, host.view, self._around)
        self.wake(spec.endpoint)
        self._changed()

    async def _part(self, endpoint: str) -> None:
        await self._guests[endpoint].leave()
        del self._guests[endpoint]
        self._changed()

    def guests(self, engine: str) -> list[str]:
        """The endpoints that run on a shared engine."""
        return [name for name, guest in self._guests.items() if guest.spec.engine == engine]

    async def unwant(self, endpoint: str, drain: Drain | None = None, drain_s: float | None = None) -> None:
        """Takes the endpoint out of the view's replicas, waits for `drain` at most `drain_s`, ends its engines.

        Returns when nothing of it runs; a shared engine goes on. An unknown endpoint is already as wanted.
        """
        if endpoint in self._guests:
            await self._part(endpoint)
        elif found := self._endpoints.get(endpoint):
            found.unwant(drain, self.settings.drain_s if drain_s is None else drain_s)
            await found.settled()

    @property
    def settings(self) -> EngineSettings:
        return self._around.settings

    def use_interpreter(self, python: Path, version: str) -> None:
        """Starts from now on run in this interpreter; what runs already keeps its own."""
        self._around.settings = replace(self._around.settings, python=python, version=version)

    def expect(self, replicas: Sequence[str]) -> None:
        """All that are to run here, by name: without GPUs they share the host's cores, each from its next start on."""
        self._around.expected = tuple(replicas)

    def watch(self, in_flight: Callable[[str], int]) -> None:
        """Tells the watchdogs how many requests a replica, by name, holds at the front: what they judge by."""
        self._around.in_flight = self.survivors.in_flight = in_flight

    async def sleep(
        self, endpoint: str, drain: Drain | None = None, drain_s: float | None = None, *, keep: bool = False
    ) -> None:
        """Gives an idle endpoint's devices back: drains and ends its engines; `cold` until `wake` or `want`.

        `keep`: those that can sleep do so instead, with their weights in the host's memory. A shared engine sleeps
        when all of its endpoints were put to sleep.
        """
        if guest := self._guests.get(endpoint):
            guest.asleep = True
            endpoint = guest.spec.engine
            others = (self._guests[name] for name in self.guests(endpoint))
            if not all(other.asleep or other.gave_up for other in others):
                return
        if found := self._endpoints.get(endpoint):
            found.sleep(drain, self.settings.drain_s if drain_s is None else drain_s, keep=keep)
            await found.settled()

    def wake(self, endpoint: str) -> None:
        """Starts a cold endpoint again, from a standby where there is one; any other is left as it is."""
        if guest := self._guests.get(endpoint):
            endpoint = guest.spec.engine
            for name in self.guests(endpoint):
                self._guests[name].asleep = False
        if found := self._endpoints.get(endpoint):
            found.wake()

    def retry(self, endpoint: str) -> None:
        """Starts again an endpoint that was given up."""
        if guest := self._guests.get(endpoint):
            guest.retry()
            endpoint = guest.spec.engine
        if found := self._endpoints.get(endpoint):
            found.retry()

    def set_status(self, view: EndpointView) -> None:
        """Shows an endpoint that has no engine (stopped, or failed before there could be one)."""
        self._shown[view.id] = view
        self._changed()

    def forget(self, endpoint: str) -> None:
        """Drops from the view an endpoint that no longer exists; its engines must have been unwanted."""
        self._shown.pop(endpoint, None)
        self._endpoints.pop(endpoint, None)
        self._changed()

    async def warm(self, plan: Plan) -> None:
        """Begins to warm a standby for starts of such a plan, where one may be; `standbys_ready` tells when."""
        await self._pool.warm(self.settings, plan)

    @property
    def standbys_ready(self) -> int:
        """How many warm interpreters wait for the next start."""
        return self._pool.ready

    def start_times(self) -> tuple[Summary, ...]:
        """What the last starts took, by cause."""
        return self._history.summaries()

    def view(self) -> FleetView:
        views = {name: found.view() for name, found in self._endpoints.items() if not found.shared}
        guests = {name: guest.view() for name, guest in self._guests.items()}
        return FleetView({**views, **guests, **self._shown}, self._complete)

    def keeps(self, engine: str) -> bool:
        """Whether engines of that name run, or sleep so that a wish for one more endpoint on them wakes them."""
        return self.runs(engine) or engine in self.asleep_bytes()

    def runs(self, engine: str) -> bool:
        """Whether engines of that name hold their devices, or are about to."""
        found = self._endpoints.get(engine)
        return found is not None and found.view().status in ("deploying", "live")

    def sleeps(self, engine: str) -> bool:
        """Whether engines of that name gave their devices up until they are called."""
        found = self._endpoints.get(engine)
        return found is not None and found.view().status == "cold"

    def asleep_bytes(self) -> dict[str, int]:
        """The engines that sleep, by name, with what their weights have of the host's memory."""
        found = {name: each.asleep_bytes for name, each in self._endpoints.items()}
        return {name: kept for name, kept in found.items() if kept is not None}

    def lingers(self, engine: str) -> bool:
        """Whether engines of that name gave their devices up, or will, and something of them is still there."""
        found = self._endpoints.get(engine)
        return found is not None and found.lingers

    async def vacate(self, engine: str) -> None:
        """Ends engines that sleep; returns when nothing lingers. Those that run, or were woken, are left alone."""
        if (found := self._endpoints.get(engine)) and found.lingers:
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

        With `settings.adopt`, engines that still serve are spared: `want` takes them over, `end_survivors` ends
        those that nobody wanted.
        """
        ended = await orphans.reap(self.settings, self._intents, self.survivors, self._emit)
        self.reaped = True
        return ended

    async def surviving_plan(self, endpoint: str, wish: str) -> orphans.Surviving | None:
        """What the endpoint's spared engines run, if it is for this wish; else they are ended, so that a new plan
        finds their memory free."""
        found = self.survivors.plan(endpoint, wish)
        if found is None:
            await self.survivors.end(self.settings, lambda name: name == endpoint)
        return found

    async def end_survivors(self, keep: Container[str] = ()) -> int:
        """Ends the spared engines of every endpoint but `keep` that no wish has claimed; how many."""
        return await self.survivors.end(self.settings, lambda name: name not in keep)

    @property
    def kept(self) -> frozenset[str]:
        """Replicas of an earlier agent, by name, that serve on: none of them was ended here."""
        return self.survivors.kept

    async def leave(self) -> None:
        """Lets go of everything as it runs, for another agent of this home to take over; what only starts is ended.

        Nothing is wanted afterwards; `reap_orphans` and new wishes take it back.
        """
        guests, self._guests = self._guests, {}
        await asyncio.gather(*(guest.close() for guest in guests.values()))
        left, self._endpoints = self._endpoints, {}
        await asyncio.gather(*(endpoint.leave() for endpoint in left.values()), self._pool.leave())
        self._complete = self.reaped = False
        self.survivors.forget()
        self._changed()

    def hurry(self) -> None:
        """Ends all patience: engines that drain or stop are killed now."""
        for endpoint in self._endpoints.values():
            endpoint.kill()

    async def close(self, deadline_s: float, drain: Drain | None = None) -> None:
        """Drains and ends every engine; past `deadline_s` their groups are killed. Nothing runs afterwards."""
        await asyncio.gather(*(guest.close() for guest in self._guests.values()))
        stops = asyncio.gather(*(self.unwant(name, drain, deadline_s) for name in self._endpoints))
        done, _ = await asyncio.wait({stops}, timeout=deadline_s + _KILL_MARGIN_S)
        if not done:
            self.hurry()
            await asyncio.wait({stops}, timeout=_KILL_MARGIN_S)
        for endpoint in self._endpoints.values():
            await endpoint.close()
        await self._pool.close()
        await self.end_survivors()

    def _cold_started(self, report: ColdStart) -> None:
        self._history.add(report)
        self._report(report)

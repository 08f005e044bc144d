"""Replica set: reconciles the slots of an endpoint with the desired spec, one spec at a time."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from itertools import count

from pareta_agent.contract.fleet_view import EndpointStatus, EndpointView
from pareta_agent.engine.fleet_context import FleetContext
from pareta_agent.engine.replica.lifecycle import ReplicaState
from pareta_agent.engine.replica.replica import Drain
from pareta_agent.engine.replica.start_history import History, remaining_s
from pareta_agent.engine.replica.start_phases import Cause
from pareta_agent.engine.slot import Slot
from pareta_agent.engine.spec import EngineSpec


class Endpoint:
    """Level-based: `want` and `remove` set the desired state; a single task reconciles and alone touches the slots."""

    def __init__(self, spec: EngineSpec, context: FleetContext, history: History) -> None:
        self._spec = spec
        self._wanted: EngineSpec | None = None
        self._context = context
        self._history = history
        self._slots: list[Slot] = []
        self._drain: Drain | None = None
        self._drain_s = context.settings.drain_s
        self._ran = False
        self._asleep = False
        self._turned_s = 0.0
        self._restless = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._task = asyncio.create_task(self._reconcile())

    def want(self, spec: EngineSpec) -> None:
        """Sets the owner's desired spec, which also wakes; a spec equal to the running spec changes nothing.

        An engine that an earlier agent left asleep sleeps on until the first call.
        """
        if spec == self._wanted:
            self.wake()
        else:
            self._turn(not self._ran and self._context.adoptable.asleep(spec.endpoint))
            self._wish(spec)

    def remove(self, drain: Drain | None, drain_s: float) -> None:
        self._turn(False)
        self._context.changed()
        if self._wanted is not None or not self._settled.is_set():
            self._drain, self._drain_s = drain, drain_s
            self._wish(None)

    def sleep(self, drain: Drain | None, drain_s: float, *, keep: bool) -> None:
        """Makes the endpoint cold. `keep`: engines that can sleep do so, with weights in the host's memory, unless a
        sleep failed before. Otherwise all engines end, sleeping engines included.
        """
        if self._wanted is None:
            return
        self._spec = self._wanted
        self._turn(True)
        self._drain, self._drain_s = drain, drain_s
        self._restless = self._restless or any(slot.slept_badly for slot in self._slots)
        if keep and not self._restless and self._slots and all(slot.sleeps for slot in self._slots):
            self._set_sleep()
        else:
            self._wish(None)

    def wake(self) -> None:
        if self._asleep and self._wanted is None:
            self.want(self._spec)
        elif self._asleep:
            self._turn(False)
            self._set_sleep()

    def _turn(self, asleep: bool) -> None:
        """Dates every change between cold and not cold: a reader that polls would miss some."""
        if asleep != self._asleep:
            self._asleep, self._turned_s = asleep, self._context.clock.mono_s()

    def _set_sleep(self) -> None:
        for slot in self._slots:
            slot.set_sleep(self._asleep)
        self._context.changed()

    def retry(self) -> None:
        """Starts again what was given up; a running engine is left alone."""
        if any(slot.gave_up for slot in self._slots):
            self._wake.set()

    def kill(self) -> None:
        for slot in self._slots:
            slot.kill()

    @property
    def shared(self) -> bool:
        """True for engines that several endpoints share; no endpoint itself."""
        return self._spec.shared

    @property
    def asleep_bytes(self) -> int | None:
        """The host's memory for the weights of engines that sleep, or are about to; None where none do."""
        return self._wanted.plan.all_weights_bytes if self._asleep and self._wanted is not None else None

    @property
    def asleep_since_s(self) -> float:
        """The moment of the monotonic clock at which the present sleep began."""
        return self._turned_s

    @property
    def is_terminating(self) -> bool:
        """True while no devices are to be held and some engine has not ended."""
        return self.asleep_bytes is not None or (self._wanted is None and not self._settled.is_set())

    async def settled(self) -> None:
        """Waits until the running engines match the desired spec (a start counts once begun)."""
        await self._settled.wait()

    async def leave(self) -> None:
        """Ends the task that owns the slots, and lets go of the engines that serve."""
        self._task.cancel()
        await asyncio.gather(self._task, *(slot.leave() for slot in self._slots), return_exceptions=True)

    async def close(self) -> None:
        """Ends the task that owns the slots; the slots must have been removed and settled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _wish(self, spec: EngineSpec | None) -> None:
        self._wanted = spec
        self._settled.clear()
        self._wake.set()
        self._context.changed()

    async def _reconcile(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted, running = self._wanted, bool(self._slots)
            kept = [slot for slot in self._slots if wanted is not None and slot.serves(wanted)]
            stops = [slot.stop(self._drain, self._drain_s) for slot in self._slots if slot not in kept]
            await asyncio.gather(*stops)
            self._slots = kept
            if wanted is not None and wanted is self._wanted:
                self._spec = wanted
                cause: Cause = "replan" if running else "wake" if self._ran else "deploy"
                self._ran = True
                self._slots = [*kept, *self._missing(wanted, kept, cause)]
                self._set_sleep()
            if not self._wake.is_set():
                self._settled.set()
            self._context.changed()

    def _missing(self, wanted: EngineSpec, kept: list[Slot], cause: Cause) -> list[Slot]:
        """Slots for replicas that no slot runs yet: at the index of an engine that outlived an agent, else at a free
        index.
        """
        if not any(wanted.plan.gpus):
            return [self._slot(wanted, wanted, index, cause) for index in range(wanted.plan.replicas)]
        seats = {slot.index: slot.gpus for slot in kept}
        missing = [group for group in wanted.plan.gpus if group not in seats.values()]
        outlived = self._context.adoptable.seats(wanted.endpoint)
        new = {outlived[group]: group for group in missing if group in outlived}
        free = (index for index in count() if index not in seats | new)
        new |= {next(free): group for group in missing if group not in outlived}
        seats |= new
        groups = tuple(seats.get(index, ()) for index in range(max(seats, default=-1) + 1))
        placed = replace(wanted, plan=replace(wanted.plan, gpus=groups))
        return [self._slot(placed, wanted, index, cause) for index in sorted(new)]

    def _slot(self, placed: EngineSpec, wanted: EngineSpec, index: int, cause: Cause) -> Slot:
        return Slot(placed, index, self._context, cause, lambda: self._wanted in (wanted, None))

    def view(self) -> EndpointView:
        spec = self._wanted or self._spec
        ready = tuple(view for slot in self._slots if (view := slot.view()) is not None)
        status, reason = self._status(bool(ready))
        return EndpointView(
            id=spec.endpoint,
            org=spec.org,
            task=spec.task,
            alias=spec.alias,
            status=status,
            replicas=ready if self._wanted is not None and not self._asleep else (),
            max_model_len=spec.plan.max_model_len,
            system_prompt=spec.system_prompt,
            tokenize=spec.tokenize,
            retry_after_s=self._retry_after_s() if status in ("deploying", "cold") else None,
            reason=reason,
            created_s=spec.created_s,
            listed=spec.listed,
            greedy=spec.plan.greedy,
            live_since_s=max(self._turned_s, min((each.since_s for each in ready), default=0.0)),
        )

    def _status(self, ready: bool) -> tuple[EndpointStatus, str | None]:
        if self._asleep:
            return "cold", None
        if self._wanted is None:
            return "stopped", "stopped as asked"
        if ready:
            return "live", None
        if self._wanted is not self._spec:
            return "deploying", None  # what was given up is about to be replaced
        given_up = [slot.gave_up for slot in self._slots if slot.gave_up]
        if given_up and len(given_up) == len(self._slots):
            return "failed", given_up[0].reason
        return "deploying", None

    def _retry_after_s(self) -> int:
        slots = self._slots if self._wanted is not None else []
        waits = [self._slot_wait_s(slot) for slot in slots if not slot.gave_up]
        past = self._history.phases(self._spec.endpoint, "wake")
        return min(waits, default=remaining_s(past, {}, None))

    def _slot_wait_s(self, slot: Slot) -> int:
        if slot.replica is not None and slot.replica.state in (ReplicaState.ASLEEP, ReplicaState.WAKING):
            past = self._history.phases(self._spec.endpoint, "resume")
            return remaining_s(past, {}, "load")
        past = self._history.phases(self._spec.endpoint, slot.cause)
        if slot.retry_at_s is not None or slot.replica is None:
            pause_s = max(0.0, (slot.retry_at_s or 0.0) - self._context.clock.mono_s())
            return math.ceil(pause_s) + remaining_s(past, {}, None)
        phases = slot.replica.phases
        return remaining_s(past, phases.spent(), phases.current)

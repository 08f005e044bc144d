"""Adoption: finds the engines that an earlier agent left, spares healthy engines and ends the rest.

Touches only processes with this home's marker. Adoptable is an engine that still serves and was ready, with the same
boot, pid, start time and marker. All others are ended. Adoption may run only before this agent starts anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pareta_agent import processes
from pareta_agent.clock import Clock
from pareta_agent.engine.process import gpu_memory
from pareta_agent.engine.process.engine_process import end_strays, marked
from pareta_agent.engine.process.process_record import Intent, Intents, boot_id
from pareta_agent.engine.process.run_dir import run_dir_of
from pareta_agent.engine.spec import EngineSettings, EngineSpec, digest
from pareta_agent.engine.vllm import client
from pareta_agent.planning.plan import Plan
from pareta_agent.telemetry.events import Emit, Event

_KILL_DEADLINE_S = 15.0
_QUIET_S = 1.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class AdoptablePlan:
    """The plan of an endpoint's spared engines, and the GPUs' free memory before the engines started."""

    plan: Plan
    gpu_free_bytes: Mapping[str, int]


class AdoptableEngines:
    """Engines that outlived an earlier agent and wait to be claimed by desired specs. `unaware` reports, for a replica
    by name, whether the earlier agent still runs without notice of the replica's end, and may send requests there.
    """

    def __init__(self, read_gpus: gpu_memory.ReadGpus, clock: Clock, changed: Callable[[], None]) -> None:
        self._found: dict[tuple[str, int], tuple[Intent, processes.Process]] = {}
        self._asleep: set[tuple[str, int]] = set()
        self.kept: frozenset[str] = frozenset()
        self.in_flight: Callable[[str], int] = lambda _replica: 0
        self.unaware: Callable[[str], bool] = lambda _replica: False
        self._read_gpus, self._clock, self._changed = read_gpus, clock, changed

    def add(self, intent: Intent, process: processes.Process, *, asleep: bool) -> None:
        self._found[intent.endpoint, intent.index] = (intent, process)
        if asleep:
            self._asleep.add((intent.endpoint, intent.index))
        else:
            self.kept |= {f"{intent.endpoint}/{intent.index}"}

    def asleep(self, endpoint: str) -> bool:
        """True where this endpoint has engines to claim, and all sleep."""
        found = {each for each in self._found if each[0] == endpoint}
        return bool(found) and found <= self._asleep

    def forget(self) -> None:
        """Forgets all engines: another agent owns the processes now."""
        self._found.clear()
        self._asleep.clear()
        self.kept = frozenset()

    def plan(self, endpoint: str, wish: str) -> AdoptablePlan | None:
        """The plan of the endpoint's living engines, on the GPUs of today, when all of the endpoint's engines were
        started for this `wish`. `replicas` is the planned number, however many live.
        """
        found = [(intent, process) for intent, process in self._found.values() if intent.endpoint == endpoint]
        intents = [intent for intent, process in found if process.alive]
        plans = [intent.plan for intent in intents if intent.plan is not None]
        alike = {replace(plan, gpus=(), replicas=0) for plan in plans}
        if any(intent.wish != wish for intent, _ in found) or len(plans) < len(intents) or len(alike) != 1:
            return None
        groups = tuple(intent.gpus for intent in intents)
        plan = max(plans, key=lambda plan: plan.replicas)
        free_bytes = {uuid: free for intent, _ in found for uuid, free in intent.gpu_free_bytes.items()}
        return AdoptablePlan(replace(plan, gpus=groups) if any(groups) else plan, free_bytes)

    def seats(self, endpoint: str) -> dict[tuple[str, ...], int]:
        """The index of each of the endpoint's engines with GPUs, by GPUs."""
        found = [intent for intent, _ in self._found.values() if intent.endpoint == endpoint]
        return {intent.gpus: intent.index for intent in found if intent.gpus}

    async def claim(self, spec: EngineSpec, index: int, settings: EngineSettings) -> processes.Process | None:
        """The engine that equals a start by this spec; an unequal engine is ended to free memory."""
        intent, process = self._found.get((spec.endpoint, index), (None, None))
        if intent is None or process is None:
            return None
        if intent.spec == digest(settings, spec, index) and process.alive:
            del self._found[spec.endpoint, index]
            return process
        await self._end(settings, intent, process)
        return None

    async def end(self, settings: EngineSettings, of: Callable[[str], bool]) -> int:
        """Ends the engines of endpoints, by id, for which `of` is true, and sweeps all files; returns the number."""
        ended = [found for found in self._found.values() if of(found[0].endpoint)]
        await asyncio.gather(*(self._end(settings, intent, process) for intent, process in ended))
        return len(ended)

    async def _end(self, settings: EngineSettings, intent: Intent, process: processes.Process) -> None:
        del self._found[intent.endpoint, intent.index]
        replica = f"{intent.endpoint}/{intent.index}"
        self.kept -= {replica}
        self._changed()
        await self._drained(replica, settings.drain_s)
        await process.kill_group(_KILL_DEADLINE_S)
        await end_strays(partial(marked, intent.marker), _KILL_DEADLINE_S)
        _sweep(settings, intent)
        await gpu_memory.until_released(
            self._read_gpus, intent.gpu_free_bytes, self._clock, gpu_memory.RELEASE_S
        )

    async def _drained(self, replica: str, drain_s: float) -> None:
        """Waits while another agent in a handover may still answer from the engine, at most `drain_s`."""

        def used() -> bool:
            return self.unaware(replica) or self.in_flight(replica) > 0

        if not used():
            return
        end_s, quiet_s = self._clock.mono_s() + drain_s, 0.0
        while quiet_s < _QUIET_S and self._clock.mono_s() < end_s:  # new requests are reported in time
            await self._clock.sleep(_POLL_S)
            quiet_s = 0.0 if used() else quiet_s + _POLL_S


async def reap(settings: EngineSettings, intents: Intents, adoptable: AdoptableEngines, emit: Emit) -> int:
    """Ends every process of this home that cannot be adopted, and sweeps all files left; returns the number ended."""
    kept: set[int] = set()  # groups: an engine that serves may start processes meanwhile
    ours = marked(settings.home_id)
    for intent in intents.all():
        process = await _adoptable(settings, intent, {found.pid for found in ours})
        if process is not None:
            socket = run_dir_of(settings, intent.endpoint, intent.index, intent.generation).socket
            adoptable.add(intent, process, asleep=intent.sleeps and await client.is_sleeping(socket) is True)
            kept.add(process.pid)

    def strays() -> list[processes.Stat]:
        return [found for found in marked(settings.home_id) if found.group not in kept]

    orphans = strays()
    gone = await end_strays(strays, _KILL_DEADLINE_S)
    for intent in intents.all():
        if not intent.ended and intent.pid not in kept:
            _sweep(settings, intent)
    if orphans:
        emit(
            Event("orphans_reaped", "warning" if gone else "error", {"processes": len(orphans), "gone": gone})
        )
    return len(orphans)


async def _adoptable(
    settings: EngineSettings, intent: Intent, marked_pids: set[int]
) -> processes.Process | None:
    if not settings.adopt or not intent.ready or intent.ended or intent.boot_id != boot_id():
        return None
    if intent.pid is None or intent.started is None or intent.pid not in marked_pids:
        return None
    process = processes.adopt(intent.pid, intent.started)
    where = run_dir_of(settings, intent.endpoint, intent.index, intent.generation)
    return process if process is not None and await client.healthy(where.socket) else None


def _sweep(settings: EngineSettings, intent: Intent) -> None:
    run_dir_of(settings, intent.endpoint, intent.index, intent.generation).sweep(intent.segments)

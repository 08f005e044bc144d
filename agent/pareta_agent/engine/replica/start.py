"""Engine start: brings an engine up by command, process, log, health and canary, each under a deadline.

The module starts and detects a failed start; the replica decides the next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from pareta_agent import processes
from pareta_agent.clock import Clock
from pareta_agent.engine.process import engine_process, gpu_memory, invocation
from pareta_agent.engine.process.compilers import Stillness
from pareta_agent.engine.process.engine_process import EngineProcess
from pareta_agent.engine.process.log_tail import LogTail
from pareta_agent.engine.process.process_record import Intent, Intents, boot_id
from pareta_agent.engine.process.run_dir import RunDir, run_dir_of
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica.exit_reason import ExitReason
from pareta_agent.engine.replica.lifecycle import ReplicaEvent
from pareta_agent.engine.replica.start_log import StartLog
from pareta_agent.engine.replica.start_phases import PhaseClock
from pareta_agent.engine.replica.warmup import WarmUp
from pareta_agent.engine.spec import EngineSettings, EngineSpec, digest
from pareta_agent.engine.standby.standby import StandbyCommand, suits
from pareta_agent.engine.standby.standby_pool import StandbyPool
from pareta_agent.engine.vllm import client, log_lines
from pareta_agent.hardware.cores import cores_near
from pareta_agent.planning.placement.cpu_share import Share
from pareta_registry.catalog import Canary

_POLL_S = 0.1
_LOOKS_AT_MEMORY = 3
_LAST_WORDS_S = 2.0
Outcome = tuple[ReplicaEvent, ExitReason]


@dataclass(frozen=True, slots=True)
class Starter:
    """Everything that a generation's start requires, but the weights.

    `plain`: not from a standby. `adopted`: already running, started by an earlier agent.
    """

    spec: EngineSpec
    index: int
    generation: int
    settings: EngineSettings
    intents: Intents
    pool: StandbyPool
    clock: Clock
    read_gpus: gpu_memory.ReadGpus
    share: Callable[[str], Share]
    plain: bool = False
    adopted: processes.Process | None = None

    @property
    def name(self) -> str:
        return f"{self.spec.endpoint}/{self.index}"

    @property
    def run_dir(self) -> RunDir:
        return run_dir_of(self.settings, self.spec.endpoint, self.index, self.generation)

    def start(self, weights: Path, phases: PhaseClock) -> EngineStart:
        return EngineStart(self, weights, phases)

    @property
    def gpus(self) -> tuple[str, ...]:
        """Uuids of the GPUs that this replica uses."""
        return self.spec.plan.group(self.index)


class EngineStart:
    """A single attempt. `run` returns the outcome; afterwards `engine` is the process, if any was started."""

    def __init__(self, starter: Starter, weights: Path, phases: PhaseClock) -> None:
        self.engine: EngineProcess | None = None
        self.warm = False
        self.gpu_baseline: dict[str, int] = {}
        self._starter = starter
        self._weights = weights
        self._phases = phases
        self._log = StartLog(LogTail(starter.run_dir.log), phases, reported=starter.adopted is not None)
        self._spawning: asyncio.Task[EngineProcess] | None = None
        self._committed = False
        self._stillness = Stillness(starter.settings.limits.compile_s)

    async def run(self) -> Outcome:
        """(PASSED, …), for an engine found asleep (SLEEP, …), or (FAILED | EXITED | HUNG, why).

        Raises OSError, AgentError when the start cannot begin.
        """
        self._phases.begin("spawn")
        self._spawning = asyncio.create_task(self._spawn())
        self.engine = await asyncio.shield(self._spawning)  # a stop must find the process to end
        self._phases.begin("import")
        exited = asyncio.create_task(self.engine.wait())
        try:
            if failure := await self._until_healthy(exited):
                return failure
        finally:
            await engine_process.cancel(exited)
        if self.engine.intent.sleeps and await client.is_sleeping(self._starter.run_dir.socket):
            return ReplicaEvent.SLEEP, exit_reasons.STOPPED
        exited = asyncio.create_task(self.engine.wait())  # the leader's cores are known now
        try:
            return await self._warm_up(exited) or await self.canaries(exited)
        finally:
            await engine_process.cancel(exited)

    async def fell_asleep(self, timeout_s: float) -> bool:
        return await client.sleep(self._starter.run_dir.socket, timeout_s)

    async def woke_up(self, timeout_s: float) -> bool:
        return await client.wake_up(self._starter.run_dir.socket, timeout_s)

    async def settled(self) -> EngineProcess | None:
        """The process, if any, once a pending spawn has ended; no further step begins."""
        if self._spawning is not None:
            if not self._committed:
                self._spawning.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                self.engine = await asyncio.shield(self._spawning)
        return self.engine

    @property
    def measures(self) -> log_lines.StartMeasures:
        return self._log.measures

    async def _spawn(self) -> EngineProcess:
        starter, where = self._starter, self._starter.run_dir
        if starter.adopted is not None:
            self._committed = True
            adopted = await engine_process.adopt(starter.adopted, where, starter.intents)
            self.gpu_baseline = dict(adopted.intent.gpu_free_bytes)
            return adopted
        share = await self._share()
        self._phases.detail = str(share)
        sleeps = starter.spec.may_sleep()
        program, argv, env = invocation.invocation(
            starter.spec, starter.settings, where, starter.gpus, self._weights, share.threads, sleeps=sleeps
        )
        where.make()
        intent = Intent(
            starter.spec.endpoint,
            starter.index,
            starter.generation,
            where.marker,
            boot_id(),
            digest(starter.settings, starter.spec, starter.index),
            wish=starter.spec.wish,
            plan=starter.spec.plan,
            gpu_free_bytes=self.gpu_baseline,
            sleeps=sleeps,
        )
        if engine := await self._from_standby(
            StandbyCommand(argv, env, where.log, where.directory, share.cpus, where.log_keeper), intent
        ):
            return engine
        self._committed = True
        # `python -m` imports from the working directory first: that directory must hold nothing to import
        cwd = None if starter.settings.command else where.directory
        return await engine_process.start(
            where, [*program, *argv], env, cwd, starter.intents, intent, share.cpus
        )

    async def _share(self) -> Share:
        """The cores of the engine: the cores beside the engine's GPUs, with local memory, or a share of all cores."""
        starter = self._starter
        if not starter.gpus:
            return await asyncio.to_thread(starter.share, starter.name)
        seen = await asyncio.to_thread(starter.read_gpus)
        self.gpu_baseline = gpu_memory.free_by_uuid(seen, starter.gpus)
        nodes = [gpu.numa_node for gpu in seen if gpu.uuid in starter.gpus]
        return Share(None, cores_near(nodes, os.sched_getaffinity(0)))

    async def _from_standby(self, order: StandbyCommand, intent: Intent) -> EngineProcess | None:
        starter = self._starter
        if starter.plain or suits(starter.settings, starter.spec.plan) is not None:
            return None
        self._phases.begin("import")  # what is waited for now is a standby that still imports
        standby = await starter.pool.take(starter.settings, starter.spec.plan)
        if standby is None:
            return None
        self._committed = True
        engine = engine_process.record(
            standby.process, starter.run_dir, starter.intents, replace(intent, marker=standby.marker)
        )
        if refusal := await standby.become(order):
            starter.pool.failed(refusal)
            return None
        self.warm = True
        return engine

    async def _until_healthy(self, exited: asyncio.Task[int | None]) -> Outcome | None:
        """None once healthy; the last phase then is `probe`."""
        assert self.engine is not None
        socket, clock = self._starter.run_dir.socket, self._starter.clock
        for look in count():
            self._log.read()
            if look % _LOOKS_AT_MEMORY == 0:
                self.engine.notice_segments()
            if exited.done():
                return self._exit(exited)
            health = await client.health(socket) if socket.exists() else None
            if health == client.DEAD:
                return self._exit(exited)
            if health == 200:
                self._phases.begin("probe")
                self.engine.notice_segments()
                self.engine.notice_cores()
                return None
            limit_s: float = getattr(self._starter.settings.limits, f"{self._phases.current}_s")
            if await self._still_s(self._phases.moved_s, limit_s) > limit_s:
                return ReplicaEvent.HUNG, exit_reasons.of_hang(
                    self._phases.current, limit_s, self._log.last_lines()
                )
            await clock.sleep(_POLL_S)
        raise AssertionError("it counts for ever")

    async def _still_s(self, moved_s: float, limit_s: float) -> float:
        """Seconds in which nothing has moved; compilers are looked for only where that begins to matter."""
        assert self.engine is not None
        now_s = self._starter.clock.mono_s()
        compiling = now_s - moved_s > limit_s / 2 and await asyncio.to_thread(self.engine.compiling)
        return self._stillness.seconds(now_s, moved_s, compiling=compiling)

    async def _warm_up(self, exited: asyncio.Future[int | None]) -> Outcome | None:
        """None once first-use compilation is done, else why the start is over."""
        starter, limits = self._starter, self._starter.settings.limits
        if starter.adopted is not None or not starter.settings.canary:
            return None
        warm_up = WarmUp(starter.run_dir.socket, starter.spec.endpoint, limits, starter.clock, self._still_s)
        found = await warm_up.run(exited)
        if warm_up.refused:
            self._phases.detail = f"it fails at {', '.join(warm_up.refused)}"
        if found == "hung":
            return ReplicaEvent.HUNG, exit_reasons.of_hang("probe", limits.probe_s, self._log.last_lines())
        return self._exit(exited) if found == "ended" else None

    async def canaries(self, exited: asyncio.Future[int | None]) -> Outcome:
        """(PASSED, …) when each answer is right, else why not; `exited` ends with the engine."""
        for canary in self._starter.spec.canaries if self._starter.settings.canary else ():
            answer = await self._answer(canary, exited)
            if answer is None:
                return self._exit(exited)
            if not answer.passed:
                return ReplicaEvent.FAILED, exit_reasons.of_canary(canary, answer)
        self._log.read()
        assert self.engine is not None
        self.engine.mark_ready(self.measures.version)
        return ReplicaEvent.PASSED, exit_reasons.STOPPED

    async def _answer(self, canary: Canary, exited: asyncio.Future[int | None]) -> client.CanaryAnswer | None:
        """None when the engine ended over the question: the exit is more specific than silence."""
        starter = self._starter
        limit_s = starter.settings.limits.probe_s
        asked = asyncio.create_task(
            client.send_canary(starter.run_dir.socket, starter.spec.endpoint, canary, limit_s)
        )
        try:
            either: set[asyncio.Future[Any]] = {asked, exited}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done() or asked.result().text is None:
                await asyncio.wait({exited}, timeout=_LAST_WORDS_S)
            return None if exited.done() else asked.result()
        finally:
            await engine_process.cancel(asked)

    def ended(self, status: int | None) -> Outcome:
        """The exit of an engine that had served before ending by itself."""
        return ReplicaEvent.EXITED, exit_reasons.of_exit(status, self._log.last_lines(), ready=True)

    def _exit(self, exited: asyncio.Future[int | None]) -> Outcome:
        status = exited.result() if exited.done() else None
        return ReplicaEvent.EXITED, exit_reasons.of_exit(status, self._log.last_lines(), ready=False)

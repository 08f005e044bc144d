"""Slot: keeps a replica of an endpoint running, generation after generation, by the restart policy."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from pareta_agent.contract.fleet_view import ReplicaView
from pareta_agent.engine.fleet_context import FleetContext
from pareta_agent.engine.process import compiled_cache
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica import restart_policy
from pareta_agent.engine.replica.exit_reason import ExitReason
from pareta_agent.engine.replica.lifecycle import ReplicaEvent, ReplicaState
from pareta_agent.engine.replica.replica import Drain, Replica
from pareta_agent.engine.replica.sleeping import SleepSwitch
from pareta_agent.engine.replica.start import Starter
from pareta_agent.engine.replica.start_phases import Cause
from pareta_agent.engine.spec import EngineSpec
from pareta_agent.telemetry.events import Event


class Slot:
    """Keeps a replica of `spec` running. `gave_up` is the last exit reason once no restart follows. `slept_badly`: an
    engine of the slot did not fall asleep, died asleep or did not wake correctly. `wanted`: whether the endpoint still
    runs this spec; a failure that another spec has mended is neither repeated nor final.
    """

    def __init__(
        self, spec: EngineSpec, index: int, context: FleetContext, cause: Cause, wanted: Callable[[], bool]
    ) -> None:
        self.spec = spec
        self.index = index
        self.replica: Replica | None = None
        self.gave_up: ExitReason | None = None
        self.retry_at_s: float | None = None
        self._context, self._wanted = context, wanted
        self.cause: Cause = cause
        self._plain = False
        self._cache_doubted = False
        self._sleep_switch = SleepSwitch()
        self.slept_badly = False
        self._stopping = False
        self._pause: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._guard())

    @property
    def name(self) -> str:
        return f"{self.spec.endpoint}/{self.index}"

    @property
    def gpus(self) -> tuple[str, ...]:
        """Uuids of the GPUs that this replica has to itself; none on the CPU."""
        return self.spec.plan.group(self.index)

    def serves(self, wanted: EngineSpec) -> bool:
        """True where the replica here is part of `wanted` too, so that only the neighbours change."""
        plan = replace(self.spec.plan, gpus=wanted.plan.gpus, replicas=wanted.plan.replicas)
        same = replace(self.spec, plan=plan) == wanted
        return same and bool(self.gpus) and self.gpus in wanted.plan.gpus and self.gave_up is None

    def view(self) -> ReplicaView | None:
        """The replica, while open for requests."""
        replica = self.replica
        if replica is None or replica.state is not ReplicaState.READY:
            return None
        where = replica.starter.run_dir
        seats = self.spec.plan.max_num_seqs * self.spec.plan.dp
        since_s = replica.ready_at_s or 0.0
        return ReplicaView(
            self.name, where.generation, where.socket, replica.measures.version, seats, since_s
        )

    @property
    def sleeps(self) -> bool:
        """True while the engine serves and can sleep with weights in the host's memory."""
        return self.replica is not None and self.replica.sleeps

    def set_sleep(self, wanted: bool) -> None:
        """Sets whether the engine is to sleep; an engine that ends meanwhile is not started before the wake."""
        self._sleep_switch.set(wanted)

    def kill(self) -> None:
        """No more patience: the engine's group is killed now."""
        if self.replica:
            self.replica.post(ReplicaEvent.KILL)

    async def stop(self, drain: Drain | None, drain_s: float) -> None:
        """Drains and ends the replica and keeps no other; returns when no process of the replica runs."""
        self._stopping = True
        if self._pause:
            self._pause.cancel()
        if self.replica:
            self.replica.drain, self.replica.drain_s = drain, drain_s
            self.replica.post(ReplicaEvent.STOP)
        await asyncio.wait({self._task})

    async def leave(self) -> None:
        """Keeps nothing any more; an engine that serves runs on."""
        self._stopping = True
        if self.replica:
            await self.replica.leave()
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _guard(self) -> None:
        """Prevents a defect of ours from leaving an endpoint in `deploying` for ever."""
        try:
            await self._keep()
        except Exception as error:
            self._give_up(
                exit_reasons.of_error(error, during="the agent's own work"), "the agent failed: see its log"
            )
            raise

    async def _keep(self) -> None:
        failures = 0
        while True:
            replica = await self._next_replica()
            if self._sleep_switch.wanted and replica.starter.adopted is None and not self._stopping:
                await self._until_woken()
                replica = await self._next_replica()
            if self._stopping:
                return
            self.replica = replica
            exit_reason = await replica.run()
            self._context.changed()
            if self._stopping or exit_reason.wanted:
                return
            self._tell(replica, exit_reason)
            if not self._wanted():
                return
            self.slept_badly = self.slept_badly or replica.slept_badly
            if self._sleep_switch.wanted:
                continue
            settings = self._context.settings.restart
            failures = restart_policy.failures_after(failures, self._ready_s(replica), settings)
            self._plain = replica.warm and replica.ready_at_s is None  # perhaps due to the fork: try without
            left = await self._cache_left(replica, exit_reason, failures)
            decision = restart_policy.decide(
                failures,
                exit_reason.reason,
                permanent=exit_reason.permanent and not self._plain and not left,
                served=replica.ready_at_s is not None,
                draw=random.random(),
                settings=settings,
            )
            if isinstance(decision, restart_policy.GiveUp):
                self._give_up(exit_reason, decision.reason)
                return
            self.cause = "restart"
            await self._wait(decision.delay_s, failures)

    async def _cache_left(self, replica: Replica, exit_reason: ExitReason, failures: int) -> bool:
        """True where the next start has an empty compiled cache, for a damaged cache would end the start again.
        Happens once in a row of failures, and not for the first end of an engine that served.
        """
        self._cache_doubted = self._cache_doubted and failures > 1
        if (
            self._cache_doubted
            or not exit_reason.doubts_cache
            or (replica.ready_at_s is not None and failures < 2)
        ):
            return False
        self._cache_doubted = await asyncio.to_thread(compiled_cache.discard, self._context.settings)
        if self._cache_doubted:
            self._context.emit(
                Event("compiled_cache_left", "warning", {"replica": self.name, "code": exit_reason.code})
            )
        return self._cache_doubted

    async def _next_replica(self) -> Replica:
        context = self._context
        last = context.intents.read(self.spec.endpoint, self.index)
        adopted = await context.adoptable.claim(self.spec, self.index, context.settings)
        generation = (last.generation if last else 0) + (adopted is None)
        if last is not None and self.cause == "deploy":
            self.cause = "start"  # deployed in an earlier life of the agent
        starter = Starter(
            self.spec,
            self.index,
            generation,
            context.settings,
            context.intents,
            context.pool,
            context.clock,
            context.read_gpus,
            context.share,
            self._plain,
            adopted,
        )
        return Replica(
            self.spec,
            starter,
            context.settings,
            context.clock,
            context.emit,
            context.changed,
            context.on_cold_start,
            context.held,
            self.cause,
            self._sleep_switch,
        )

    def _ready_s(self, replica: Replica) -> float:
        return self._context.clock.mono_s() - replica.ready_at_s if replica.ready_at_s is not None else 0.0

    async def _until_woken(self) -> None:
        self.cause = "wake"
        await self._pausing(self._sleep_switch.until(False))

    async def _pausing(self, pause: Coroutine[Any, Any, None]) -> None:
        """Waits for the end of `pause`, or for the slot's stop."""
        self._pause = asyncio.create_task(pause)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({self._pause})

    async def _wait(self, delay_s: float, failures: int) -> None:
        fields = {
            "endpoint": self.spec.endpoint,
            "reason": f"starting again in {delay_s:.0f} s" if delay_s else "starting again at once",
            "replica": self.name,
            "delay_s": round(delay_s, 2),
            "failures": failures,
            "failures_allowed": self._context.settings.restart.budget,
        }
        self._context.emit(Event("restart_scheduled", "warning", fields))
        self.retry_at_s = self._context.clock.mono_s() + delay_s
        await self._pausing(self._context.clock.sleep(delay_s))
        self.retry_at_s = None

    def _tell(self, replica: Replica, exit_reason: ExitReason) -> None:
        self._context.emit(
            Event(
                "engine_ended",
                "error",
                {
                    "endpoint": self.spec.endpoint,
                    "replica": self.name,
                    "generation": replica.starter.generation,
                    "code": exit_reason.code,
                    "reason": exit_reason.reason,
                    "detail": exit_reason.detail,
                    "remedy": exit_reason.remedy,
                    "log": "\n".join(exit_reason.log),
                    "log_path": str(replica.starter.run_dir.log),
                    "stacks_path": str(exit_reason.stacks) if exit_reason.stacks else None,
                },
            )
        )

    def _give_up(self, exit_reason: ExitReason, reason: str) -> None:
        self.gave_up = replace(exit_reason, reason=reason, permanent=True)
        self._context.emit(
            Event(
                "engine_given_up",
                "error",
                {
                    "endpoint": self.spec.endpoint,
                    "replica": self.name,
                    "code": exit_reason.code,
                    "reason": reason,
                    "detail": exit_reason.detail,
                    "remedy": exit_reason.remedy,
                    "exit_code": exit_reason.exit_code,
                },
            )
        )
        self._context.changed()

"""Adapter endpoint: keeps one endpoint's adapter loaded, and proven, on every replica of a shared engine.

One task per endpoint loads the adapter again on each new generation of the base, which starts without adapters. An
engine of an earlier agent is first queried for loaded adapters. Desired state of the base is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from pareta_agent.contract.fleet_view import EndpointView, ReplicaView
from pareta_agent.engine.fleet_context import FleetContext
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica import restart_policy
from pareta_agent.engine.replica.exit_reason import ExitReason
from pareta_agent.engine.replica.start_phases import PhaseClock
from pareta_agent.engine.spec import AdapterEndpointSpec
from pareta_agent.engine.vllm import client
from pareta_agent.telemetry.events import Event
from pareta_registry.catalog import Canary

_LAST_CALLS_S = 1.0


class AdapterEndpoint:
    """`host` reads the shared engine's view. `gave_up` is the terminal verdict, None while there is hope."""

    def __init__(
        self, spec: AdapterEndpointSpec, host: Callable[[], EndpointView], context: FleetContext
    ) -> None:
        self.spec = spec
        self.gave_up: ExitReason | None = None
        self.asleep = False
        self._host = host
        self._context = context
        self._phases = PhaseClock(spec.endpoint, context.clock, context.emit)
        self._directory: Path | None = None
        self._on: dict[Path, float] = {}
        self._attached_s = context.clock.mono_s()
        self._asked_s = 0.0
        self._again = asyncio.Event()
        self._leaving = False
        self._task = asyncio.create_task(self._keep()) if spec.fetch is not None else None

    def retry(self) -> None:
        """Tries again what was given up."""
        if self.gave_up is not None:
            self.gave_up = None
            self._again.set()

    async def leave(self) -> None:
        """Leaves the view at once, then unloads the adapter; the engine finishes accepted requests."""
        self._leaving = True
        self._context.changed()
        await self.close()
        on = [replica.socket for replica in self._host().replicas if replica.socket in self._on]
        if on:
            await self._context.clock.sleep(_LAST_CALLS_S)  # earlier calls have reached the engine by then
        for socket in on:
            # an engine that ends takes all adapters along
            with contextlib.suppress(OSError, client.AdapterRefused):
                await client.unload_adapter(socket, self.spec.endpoint)

    async def close(self) -> None:
        """Ends the task and leaves the engine as is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def view(self) -> EndpointView:
        """The view for callers: live on the replicas that have the adapter loaded."""
        spec, host = self.spec, self._host()
        ready = tuple(replica for replica in host.replicas if self._serves(replica))
        status, reason, wait_s = host.status, host.reason, host.retry_after_s
        if self.gave_up is not None:
            status, reason, wait_s = "failed", self.gave_up.reason, None
        elif status == "live" and not ready:
            status, wait_s = "deploying", 1
        return EndpointView(
            id=spec.endpoint,
            org=spec.org,
            task=spec.task,
            alias=spec.alias,
            status=status,
            replicas=ready,
            max_model_len=host.max_model_len,
            system_prompt=spec.system_prompt,
            tokenize=spec.tokenize,
            retry_after_s=wait_s,
            reason=reason,
            created_s=spec.created_s,
            listed=spec.listed,
            engine=spec.engine,
            served_as=spec.engine if spec.fetch is None else None,
            greedy=host.greedy,
            live_since_s=max(host.live_since_s, min(map(self._since_s, ready), default=0.0)),
        )

    def _serves(self, replica: ReplicaView) -> bool:
        if self._leaving or self.gave_up is not None:
            return False
        return self.spec.fetch is None or replica.socket in self._on

    def _since_s(self, replica: ReplicaView) -> float:
        return self._on.get(replica.socket, self._attached_s)

    async def _keep(self) -> None:
        failures = 0
        while True:
            revision = self._context.changed.revision
            try:
                await self._look_again()
                await self._settle()
                failures = 0
            except Exception as error:
                failures += 1
                await self._failed(error, failures)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._context.settings.idle_canary_s):
                    await self._context.changed.since(revision)

    async def _look_again(self) -> None:
        """Sends this adapter's canary to an idle engine at intervals. After two wrong answers the adapter is loaded
        anew and must then pass. Silence is left to the engine's watchdog. Raises client.AdapterRefused, OSError.
        """
        settings, now_s = self._context.settings, self._context.clock.mono_s()
        if now_s - self._asked_s < settings.idle_canary_s or not (settings.canary and self.spec.canaries):
            return
        for replica in self._host().replicas:
            if replica.socket not in self._on or self._context.held(replica.name):
                continue
            self._asked_s = now_s
            if await self._wrong(replica) and await self._wrong(replica):
                del self._on[replica.socket]
                self._context.changed()
                fields = {"endpoint": self.spec.endpoint, "replica": replica.name}
                self._context.emit(Event("adapter_wrong", "error", fields))
                await client.unload_adapter(replica.socket, self.spec.endpoint)

    async def _wrong(self, replica: ReplicaView) -> bool:
        answer = await self._asked(replica, self.spec.canaries[0])
        return not answer.passed and answer.text is not None

    async def _asked(self, replica: ReplicaView, canary: Canary) -> client.CanaryAnswer:
        limit_s = self._context.settings.limits.probe_s
        answer = await client.send_canary(replica.socket, self.spec.endpoint, canary, limit_s)
        self._context.emit(answer.event(replica.name, replica.generation))
        return answer

    async def _settle(self) -> None:
        """Everything that is missing, on every replica. Raises what went wrong first."""
        if self._directory is None:
            self._directory = await self._fetched()
        replicas = self._host().replicas
        there = {replica.socket for replica in replicas}  # each generation has a new socket
        self._on = {socket: since_s for socket, since_s in self._on.items() if socket in there}
        for replica in replicas:
            if replica.socket not in self._on:
                await self._move_in(replica, self._directory)
                self._on[replica.socket] = self._context.clock.mono_s()
                self._context.changed()

    async def _fetched(self) -> Path:
        def progress(phase: str, done: int, total: int | None) -> None:
            self._phases.begin(phase)
            self._phases.progress(done, total)

        assert self.spec.fetch is not None
        self._phases.begin("fetch")
        directory = await self.spec.fetch(progress)
        self._phases.end("done")
        return directory

    async def _move_in(self, replica: ReplicaView, directory: Path) -> None:
        """Loads the adapter if absent; the adapter must then pass all canaries. Raises _Refused, OSError."""
        name, socket = self.spec.endpoint, replica.socket
        self._phases.begin("load")
        there = (await client.loaded_adapters(socket)).get(name)
        if there != str(directory):
            if there is not None:
                await client.unload_adapter(socket, name)
            await self._load(socket, directory)
        self._phases.begin("probe")
        for canary in self.spec.canaries if self._context.settings.canary else ():
            answer = await self._asked(replica, canary)
            if answer.text is None:
                raise OSError("the engine did not answer the adapter's canary")
            if not answer.passed:
                raise _Refused(exit_reasons.of_canary(canary, answer))
        self._phases.end("done")
        self._asked_s = self._context.clock.mono_s()
        self._context.emit(Event("adapter_loaded", "info", {"endpoint": name, "engine": self.spec.engine}))

    async def _load(self, socket: Path, directory: Path) -> None:
        try:
            await client.load_adapter(socket, self.spec.endpoint, directory)
        except client.AdapterRefused as refusal:
            if not await client.healthy(socket):
                raise OSError("the engine ended while it loaded the adapter") from None
            raise _Refused(
                ExitReason(
                    "adapter_refused",
                    "the engine does not take this adapter",
                    str(refusal),
                    permanent=True,
                    remedy="check its rank and modules against the base: `pareta-registry import` says what it holds",
                )
            ) from None

    async def _failed(self, error: Exception, failures: int) -> None:
        """Waits by the restart policy; once the policy gives up, waits for `retry`."""
        said = (
            error.exit_reason
            if isinstance(error, _Refused)
            else exit_reasons.of_error(error, during="loading the adapter")
        )
        self._phases.end("failed", said.reason)
        settings = self._context.settings.restart
        if isinstance(error, OSError):
            failures = min(failures, settings.budget)  # the watchdog ends a silent engine
        decision = restart_policy.decide(
            failures, said.reason, permanent=said.permanent, draw=random.random(), settings=settings
        )
        if isinstance(decision, restart_policy.RestartAfter):
            await self._context.clock.sleep(decision.delay_s)
            return
        self.gave_up, self._on = said, {}
        self._again.clear()
        fields = {
            "endpoint": self.spec.endpoint,
            "code": said.code,
            "reason": decision.reason,
            "detail": said.detail,
            "remedy": said.remedy,
            "exit_code": said.exit_code,
        }
        self._context.emit(Event("engine_given_up", "error", fields))
        self._context.changed()
        await self._again.wait()


class _Refused(Exception):
    """A refusal that no second try would change."""

    def __init__(self, exit_reason: ExitReason) -> None:
        super().__init__(exit_reason.reason)
        self.exit_reason = exit_reason

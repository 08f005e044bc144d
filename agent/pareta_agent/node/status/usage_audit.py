"""Usage audit: compares usage records with the engines' own token counters and reports the drift."""

from __future__ import annotations

import contextlib
from asyncio import timeout
from collections import defaultdict

from pareta_agent.clock import Clock
from pareta_agent.contract.fleet_view import ReplicaView
from pareta_agent.engine.fleet import Fleet
from pareta_agent.engine.vllm import client
from pareta_agent.meter.audit import NOTHING, Audit, Counted, Drift, counters
from pareta_agent.telemetry.events import Emit, Event, Phase
from pareta_agent.telemetry.metrics import Metrics

LOOK_EVERY_S = 10.0
READ_TIMEOUT_S = 2.0
REPEAT_S = 60.0
Engine = tuple[str, int]  # replica and generation


class Auditor:
    """Looks at each engine on arrival and every ten seconds. A drift is reported when two looks agree: the counters may
    lag behind the answers.
    """

    def __init__(self, fleet: Fleet, audit: Audit, metrics: Metrics, clock: Clock, emit: Emit) -> None:
        self._fleet, self._audit, self._metrics = fleet, audit, metrics
        self._clock, self._emit = clock, emit
        self._seen: dict[Engine, Drift] = {}
        self._reported: dict[Engine, tuple[Drift, float]] = {}

    def heard(self, event: Phase | Event) -> None:
        """A bus listener: counts the agent's own canaries, which have no usage record."""
        if isinstance(event, Event) and event.name == "canary_answered":
            asked = event.fields
            account = self._audit.of(asked["replica"], asked["generation"])
            account.add(Counted(asked["input_tokens"], asked["output_tokens"]))

    def forget(self) -> None:
        """Starts new baselines: another agent has sent requests to these engines meanwhile."""
        self._audit.keep(())
        self._seen.clear()

    async def run(self) -> None:
        """Runs until cancelled."""
        revision, due_s = 0, self._clock.mono_s()
        while True:
            with contextlib.suppress(TimeoutError):
                async with timeout(max(0.0, due_s - self._clock.mono_s())):
                    revision = await self._fleet.changed(revision)
            all_are_due = self._clock.mono_s() >= due_s
            if all_are_due:
                due_s = self._clock.mono_s() + LOOK_EVERY_S
            await self.look(every=all_are_due)

    async def look(self, *, every: bool = True) -> None:
        """Looks at every engine, or only at new engines."""
        endpoints = self._fleet.view().endpoints.values()
        replicas = {
            replica.name: replica for e in endpoints for replica in e.replicas
        }  # endpoints may share a replica
        for replica in replicas.values():
            account = self._audit.of(replica.name, replica.generation)
            if every or account.baseline is None:
                await self._judge(replica)
        self._audit.keep([(replica.name, replica.generation) for replica in replicas.values()])

    async def _judge(self, replica: ReplicaView) -> None:
        account = self._audit.of(replica.name, replica.generation)
        look = account.look()
        text = await client.metrics(replica.socket, READ_TIMEOUT_S)
        counted = counters(text) if text is not None else None
        drift = account.judge(look, counted) if counted is not None else None
        if drift is None:
            return
        engine = (replica.name, replica.generation)
        before, self._seen[engine] = self._seen.get(engine, Drift()), drift
        if before == drift or NOTHING not in (before.unexplained, drift.unexplained):
            self._tell(engine, drift)
        self._show(replica.name.partition("/")[0])

    def _tell(self, engine: Engine, drift: Drift) -> None:
        now_s = self._clock.mono_s()
        before, reported_s = self._reported.get(engine, (Drift(), -REPEAT_S))
        if (drift.tokens, drift.unexplained) == (before.tokens, before.unexplained):
            return
        if drift.busy and (drift.unexplained == NOTHING or now_s - reported_s < REPEAT_S):
            return  # running requests may explain the drift, or a report is recent
        self._reported[engine] = (drift, now_s)
        new = [each for each in drift.requests if each not in before.requests]
        fields = {
            "endpoint": engine[0].partition("/")[0],
            "replica": engine[0],
            "generation": engine[1],
            "input_tokens": drift.tokens.input,
            "output_tokens": drift.tokens.output,
            "unexplained_input_tokens": drift.unexplained.input,
            "unexplained_output_tokens": drift.unexplained.output,
            "requests": ", ".join(new) or None,
        }
        level = "info" if drift.unexplained == NOTHING else "error"
        self._emit(Event("usage_drifted", level, fields))  # type: ignore[arg-type]

    def _show(self, endpoint: str) -> None:
        """Sets an endpoint's drift: the sum over all of its engines so far."""
        sums: dict[str, Counted] = defaultdict(Counted)
        for (replica, _), drift in self._seen.items():
            if replica.partition("/")[0] == endpoint:
                sums["tokens"] = sums["tokens"].plus(drift.tokens)
                sums["unexplained"] = sums["unexplained"].plus(drift.unexplained)
        for kind in ("input", "output"):
            self._metrics.set("pareta_usage_drift_tokens", getattr(sums["tokens"], kind), endpoint, kind)
            self._metrics.set(
                "pareta_usage_drift_unexplained_tokens", getattr(sums["unexplained"], kind), endpoint, kind
            )

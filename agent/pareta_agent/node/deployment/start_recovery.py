"""Start recovery: learns from engine starts for the next plan, and replans a start that failed.

A start that failed for a known reason is repeated with a single remedy, then with the next candidate of its report.
After a wrong canary a remedy changes the computation of the same numbers (`planning/support/numerics.py`). The restart
policy handles unknown reasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from pareta_agent.clock import Clock
from pareta_agent.engine.replica.start_phases import ColdStartReport
from pareta_agent.engine.spec import EngineSpec
from pareta_agent.hardware.inventory import Gpu
from pareta_agent.planning.cpu_plan import CPU
from pareta_agent.planning.memory.learn import key_of, learn, remember
from pareta_agent.planning.memory.measured import Measured, from_json, to_json
from pareta_agent.planning.plan import Plan, PlanReport
from pareta_agent.planning.remedy import remedy
from pareta_agent.planning.start_failure import StartFailure, classify
from pareta_agent.planning.support.numerics import Numerics, dtype_workaround, gpu_key, knobs, turned
from pareta_agent.telemetry.events import Emit, Event
from pareta_registry.files import write_atomically

MEASURED: Final = "measured.json"
TAIL_BYTES = 256 * 1024


@dataclass(slots=True)
class Attempt:
    """A deployment under way: the remaining plans, and the failed starts of the present plan.

    `replicas` is the planned number, however many GPUs remain. `wrong` is the plan with the wrong canary, `knobs` the
    numerics remedies still untried, `knob` the present remedy.
    """

    spec: EngineSpec
    left: list[Plan]
    replicas: int
    failed: Plan | None = None
    failures: int = 0
    since_s: float = 0.0
    wrong: Plan | None = None
    knobs: list[str] = field(default_factory=list)
    knob: str = ""


class StartRecovery:
    """`want` starts a spec. `gpu_of` returns a plan's first GPU, None on the CPU. `gpu_groups` returns the present GPUs
    for an endpoint's plan and number of replicas.
    """

    def __init__(
        self,
        path: Path,
        log_dir: Path,
        version: str,
        numerics: Callable[[], Numerics],
        gpu_of: Callable[[Plan], Gpu | None],
        gpu_groups: Callable[[str, Plan, int], tuple[tuple[str, ...], ...]],
        want: Callable[[EngineSpec], None],
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._path, self._log_dir, self._gpu_of, self._numerics = path, log_dir, gpu_of, numerics
        self._gpu_groups, self._want, self._clock, self._emit = gpu_groups, want, clock, emit
        self._attempts: dict[str, Attempt] = {}
        self.measured = measured_at(path, version, numerics())

    def engine_is(self, version: str) -> None:
        """Sets the engine's version after the kernel check; discards measurements of another version."""
        if version != self.measured.engine_version:
            self.measured = measured_at(self._path, version, self._numerics())
        self.measured = self.measured.checked(self._numerics())

    def deployed(self, spec: EngineSpec, report: PlanReport) -> None:
        """A deployment began with the report's best plan."""
        left = [candidate.plan for candidate in report.candidates[1:]]
        self._attempts[spec.endpoint] = Attempt(spec, left, spec.plan.replicas)

    def plans(self) -> dict[str, Plan]:
        """The last started plan of every deployment, by engine name."""
        return {endpoint: attempt.spec.plan for endpoint, attempt in self._attempts.items()}

    def moved(self, endpoint: str) -> bool:
        """Places the replicas again after GPUs broke, recovered or became free. False when no placement fits."""
        attempt = self._attempts[endpoint]
        plan = attempt.spec.plan
        groups = self._gpu_groups(endpoint, plan, attempt.replicas)
        if groups and groups != plan.gpus:
            attempt.spec = replace(attempt.spec, plan=replace(plan, gpus=groups, replicas=len(groups)))
            self._want(attempt.spec)
        return bool(groups)

    def forget(self, endpoint: str) -> None:
        self._attempts.pop(endpoint, None)

    def cold_started(self, report: ColdStartReport) -> None:
        """Learns from a successful start, repairs a failed start."""
        attempt = self._attempts.get(report.endpoint)
        if attempt is None or self._clock.mono_s() - report.total_s < attempt.since_s:
            return  # a start under an earlier plan
        log = self._tail(report.replica)
        if report.outcome == "ready":
            self._learn(attempt, log)
        elif report.outcome == "failed" and (report.code == "canary_wrong" or attempt.knob):
            self._compute_otherwise(attempt)
        elif report.outcome == "failed":
            self._heal(attempt, classify(log.splitlines()))

    def _learn(self, attempt: Attempt, log: str) -> None:
        plan, artifact = attempt.spec.plan, attempt.spec.revision
        name = self._name(plan)
        measured = self.measured.learned(key_of(plan, artifact, name), learn(plan, log))
        if attempt.failed is not None:
            measured = remember(measured, attempt.failed, plan, artifact, name)
        if attempt.wrong is not None and attempt.knob:
            numerics = measured.numerics.remembering(
                attempt.wrong, attempt.knob, self._device(attempt.wrong, measured)
            )
            measured = replace(measured, numerics=numerics)
        attempt.failed, attempt.failures, attempt.knobs, attempt.knob = None, 0, [], ""
        self._keep(measured)

    def _compute_otherwise(self, attempt: Attempt) -> None:
        """Applies the next numerics remedy to the plan with the wrong canary. Never two remedies together: the
        effective remedy must be known.
        """
        if attempt.wrong is None:
            plan = attempt.wrong = attempt.spec.plan
            others = frozenset(each.dtype for each in attempt.left if each.variant == plan.variant)
            attempt.knobs = list(knobs(plan, others))
        while attempt.knobs:
            attempt.knob = attempt.knobs.pop(0)
            if (other := self._turned(attempt, attempt.wrong)) is not None:
                self._again(attempt, other, StartFailure("numerics"))
                return
        attempt.knob = ""
        reason = "the canary is wrong with every numerics remedy of this engine"
        remedy = "check the weights and the catalog's canary: `pareta-agent engine check` shows the kernels"
        self._emit(
            Event(
                "replan_refused",
                "error",
                {"endpoint": attempt.spec.endpoint, "reason": reason, "remedy": remedy},
            )
        )

    def _turned(self, attempt: Attempt, plan: Plan) -> Plan | None:
        name, _, dtype = attempt.knob.partition("=")
        if name != "dtype":
            return turned(plan, attempt.knob)
        other = next((p for p in attempt.left if p.variant == plan.variant and p.dtype == dtype), None)
        return replace(other, workaround=dtype_workaround(plan.dtype, dtype)) if other else None

    def _device(self, plan: Plan, measured: Measured) -> str:
        gpu = self._gpu_of(plan)
        return gpu_key(gpu.name or gpu.uuid, gpu.compute_capability) if gpu else measured.numerics.device

    def _heal(self, attempt: Attempt, failure: StartFailure) -> None:
        if not failure.replannable:
            return
        attempt.failures += 1
        plan = attempt.spec.plan
        gpu = self._gpu_of(plan)
        if failure.remedy == "blacklist" and gpu and gpu.compute_capability:
            self._keep(self.measured.blacklisted(attempt.spec.revision, gpu.compute_capability))
        fp8 = any(p.variant == plan.variant and p.kv_cache_dtype == "fp8" for p in attempt.left)
        answer = remedy(failure, plan, attempt.failures, kv_fp8=fp8)
        if isinstance(answer, Plan):
            attempt.failed = attempt.failed or plan
            self._again(attempt, answer, failure)
        elif (other := self._next(attempt)) is not None:
            attempt.failures, attempt.failed, attempt.replicas = 0, None, other.replicas
            self._again(attempt, other, failure)
        else:
            fields = {"endpoint": attempt.spec.endpoint, "reason": answer.reason, "remedy": answer.nearest}
            self._emit(Event("replan_refused", "error", fields))

    def _next(self, attempt: Attempt) -> Plan | None:
        """The next candidate with the same weights and a free placement; skipped candidates are used up."""
        plan = attempt.spec.plan
        while (
            at := next((i for i, p in enumerate(attempt.left) if p.variant == plan.variant), None)
        ) is not None:
            other = attempt.left.pop(at)
            if groups := self._gpu_groups(attempt.spec.endpoint, other, other.replicas):
                return replace(other, gpus=groups, replicas=len(groups))
        return None

    def _again(self, attempt: Attempt, plan: Plan, failure: StartFailure) -> None:
        changed = [name for name in Plan.__slots__ if getattr(plan, name) != getattr(attempt.spec.plan, name)]
        said = ", ".join(f"{name} {getattr(plan, name)}" for name in changed) or "as it was"
        attempt.spec = replace(attempt.spec, plan=plan)
        attempt.since_s = self._clock.mono_s()
        fields = {"endpoint": attempt.spec.endpoint, "reason": f"{failure.cause}: trying {said}"}
        self._emit(Event("replanned", "warning", fields))
        self._want(attempt.spec)

    def _name(self, plan: Plan) -> str:
        gpu = self._gpu_of(plan)
        return (gpu.name or gpu.uuid) if gpu else CPU

    def _tail(self, replica: str) -> str:
        """The end of the engine's log; empty without a log."""
        try:
            with (self._log_dir / f"{replica.replace('/', '-')}.log").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def _keep(self, measured: Measured) -> None:
        if measured == self.measured:
            return
        self.measured = measured
        write_atomically(self._path, to_json(measured))


def measured_at(path: Path, version: str, numerics: Numerics) -> Measured:
    """The stored measurements for this engine version, with the kernel check's result. A file that is damaged or of
    another version counts as none.
    """
    try:
        kept = from_json(path.read_bytes())
    except (OSError, ValidationError):
        kept = Measured(version)
    return (kept if kept.engine_version == version else Measured(version)).checked(numerics)

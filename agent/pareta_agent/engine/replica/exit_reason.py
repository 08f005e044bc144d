"""Exit reason: describes why a replica ended, with the engine's own words for the node's owner only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.engine.vllm.client import CanaryAnswer
from pareta_agent.errors import AgentError, EngineError
from pareta_agent.planning.start_failure import classify
from pareta_registry.catalog import Canary


@dataclass(frozen=True, slots=True)
class ExitReason:
    """`reason` is safe for callers. `detail` and `log` (the last lines) may name paths: for the owner's terminal only.

    `permanent`: a repeat would fail alike, so no retry follows. `stacks` is the file of a frozen engine's stacks.
    """

    code: str
    reason: str
    detail: str = ""
    permanent: bool = False
    log: tuple[str, ...] = ()
    remedy: str = ""
    exit_code: int = EngineError.exit_code
    stacks: Path | None = None

    @property
    def wanted(self) -> bool:
        return self.code == "stopped"

    @property
    def doubts_cache(self) -> bool:
        """True where a damaged compiled cache may be the cause: broken libraries, stale locks."""
        return self.code in _CAUSED_BY_CACHES


_CAUSED_BY_CACHES = ("engine_died", "engine_core_died", "engine_import", "engine_hung", "engine_stalled")
STOPPED = ExitReason("stopped", "stopped as asked")
NOT_ASLEEP = ExitReason("engine_not_asleep", "the engine could not be put to sleep")
NOT_WOKEN = ExitReason("engine_not_woken", "the engine slept and did not wake")
_LINES_OF_A_SERVING_ENGINE = 60  # older lines belong to the start, or to requests

_SAYS = {
    "memory": "the engine ran out of memory",
    "kv_cache": "there is no memory left for the KV cache",
    "context": "the context is longer than the KV cache can hold",
    "positions": "the context is longer than the model takes",
    "step": "the model reads a prompt in one step, and the context is longer than a step",
    "flag": "the engine does not know one of its settings",
    "model": "the engine cannot run this model",
    "device": "the engine found no usable GPU",
    "import": "the engine's installation is broken",
    "core_died": "the engine's core died",
    "unknown": "the engine ended",
}

_REMEDIES = {
    "memory": "free memory on this node, or lower max_model_len",
    "kv_cache": "lower max_model_len, or give the engine more memory",
    "context": "lower max_model_len",
    "positions": "lower max_model_len, or the model's context in the catalog",
    "step": "lower max_model_len, or raise max_num_batched_tokens in the catalog",
    "flag": "change the model's engine settings in the catalog, or install another engine version",
    "model": "check that the artifact is whole, and that this engine version knows the model's architecture",
    "device": "see what the driver says: `pareta-agent inventory`, nvidia-smi",
    "import": "install the engine anew: `pareta-agent engine install`",
}


def of_exit(status: int | None, lines: Sequence[str], *, ready: bool) -> ExitReason:
    """Reason for an engine that ended by itself; any exit without a stop is a crash, whatever the status."""
    failure = classify(lines[-_LINES_OF_A_SERVING_ENGINE:] if ready else lines)
    when = "while it served" if ready else "while it started"
    if status is not None and status < 0:
        said = f"killed by signal {-status}"
        reason = f"the engine was killed by signal {-status} {when}"
    else:
        said = f"exit status {status}" if status is not None else "exit status unknown"
        reason = f"{_SAYS[failure.code]} {when}"
    detail = f"{said}: {failure.text}" if failure.text else said
    remedy = "" if ready else _REMEDIES.get(failure.code, "read the last lines of the engine's log")
    code = f"engine_{failure.code}" if failure.code != "unknown" else "engine_died"
    log = () if ready else tuple(lines)[-20:]  # a serving engine's log may quote a request
    return ExitReason(code, reason, detail, failure.permanent and not ready, log, remedy)


def of_hang(phase: str | None, limit_s: float, lines: Sequence[str]) -> ExitReason:
    reason = f"the engine made no progress for {limit_s:.0f} s in phase {phase or 'start'}"
    return ExitReason("engine_hung", reason, log=tuple(lines)[-20:])


def of_stall(limit_s: float) -> ExitReason:
    return ExitReason("engine_stalled", f"the engine held requests and made no tokens for {limit_s:.0f} s")


def of_canary(canary: Canary, answer: CanaryAnswer, *, again: bool = False) -> ExitReason:
    """A wrong answer is permanent: the same weights on the same engine will be wrong again."""
    if answer.text is None:
        status = f"status {answer.status}" if answer.status else "no answer"
        return ExitReason("canary_silent", f"the engine did not answer the canary ({status})")
    detail = f"asked {canary.prompt!r}, expected {canary.contains!r} in the answer, got {answer.text!r}"
    return ExitReason(
        "canary_wrong", "the engine answers, but wrongly: the canary failed", detail, permanent=not again
    )


def of_error(error: Exception, *, during: str) -> ExitReason:
    """Reason on our side: an error of the agent's tree keeps code and remedy, any other error is the host's."""
    if isinstance(error, AgentError):
        return ExitReason(
            error.code,
            f"{during} failed ({error.code})",
            error.message,
            permanent=not error.retryable,
            remedy=error.remedy,
            exit_code=error.exit_code,
        )
    return ExitReason("host_error", f"{during} failed on this host", f"{type(error).__name__}: {error}")

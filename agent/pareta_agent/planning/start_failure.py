"""Start failures: maps the log of a failed engine start to cause, permanence and class of remedy.

The restart policy and start recovery read the same table, so that both agree. The restart policy repeats no start with
a permanent failure; start recovery applies the class of remedy. The patterns hold for vLLM 0.25 to 0.33.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

FailureCause = Literal[
    "memory_busy",
    "cpu_memory",
    "no_cache",
    "context",
    "positions",
    "step",
    "load_oom",
    "profile_oom",
    "sampler_oom",
    "capture_oom",
    "memory_moved",
    "indivisible",
    "kernel",
    "attention",
    "visibility",
    "numerics",
    "flag",
    "kv_cache",
    "memory",
    "device",
    "import",
    "model",
    "core_died",
    "unknown",
]
EndCode = Literal[
    "memory",
    "kv_cache",
    "context",
    "positions",
    "step",
    "flag",
    "model",
    "device",
    "import",
    "core_died",
    "unknown",
]
"""The public code of a failure: `engine_<code>` in events."""

RemedyClass = Literal["replan", "next_plan", "retry", "blacklist", "operator", "restart"]
"""Classes of remedy.

- `replan` changes one setting of the same plan.
- `next_plan` takes the next candidate.
- `retry` starts the same plan again.
- `blacklist` excludes the weights from such GPUs and takes the next candidate.
- `operator` waits for the operator.
- `restart` leaves the start to the restart policy."""


@dataclass(frozen=True, slots=True)
class FailureRow:
    """`permanent`: the same plan fails again in the same way. `code` None: another line of the log has the code."""

    cause: FailureCause
    pattern: str
    code: EndCode | None
    permanent: bool
    remedy: RemedyClass


# Searched from the log's end upwards: the last lines only wrap an earlier line. Groups are the numbers of the remedy.
PLAN_ROWS: Final = (
    FailureRow(
        "memory_busy",
        r"Free memory on device \S+ \(([\d.]+)/([\d.]+) GiB\) on startup is less than desired GPU memory utilization",
        "memory",
        False,
        "replan",
    ),
    FailureRow(
        "cpu_memory",
        r"Available memory on node \S+ \(([\d.]+)/([\d.]+) GiB\) on kv cache allocation",
        "kv_cache",
        True,
        "replan",
    ),
    FailureRow(
        "cpu_memory",
        r"Available memory on node \S+ \(([\d.]+)/([\d.]+) GiB\) on startup",
        "memory",
        False,
        "replan",
    ),
    FailureRow("no_cache", r"No available memory for the cache blocks", "kv_cache", True, "next_plan"),
    FailureRow(
        "context",
        r"max seq len \((\d+)\)(?:.*estimated maximum model length is (\d+))?",
        "context",
        True,
        "replan",
    ),
    FailureRow(
        "positions",
        (
            r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(\w+=([\d.]+)"
            r"(?: or model_max_length=([\d.]+))?"
        ),
        "positions",
        True,
        "replan",
    ),
    FailureRow(
        "step",
        r"max_num_batched_tokens \((\d+)\) is smaller than max_model_len \((\d+)\)",
        "step",
        True,
        "replan",
    ),
    FailureRow("load_oom", r"Failed to load model - not enough GPU memory", None, False, "next_plan"),
    FailureRow("sampler_oom", r"warming up sampler with (\d+) dummy requests", None, False, "replan"),
    FailureRow("memory_moved", r"Error in memory profiling\. Initial free memory", None, False, "retry"),
    FailureRow("indivisible", r"must be divisible|is not divisible by", None, False, "next_plan"),
    FailureRow(
        "kernel",
        r"Minimum capability: (\d+)\. Current capability: (\d+)|Failed to find a kernel",
        None,
        True,
        "blacklist",
    ),
    FailureRow("attention", r"No valid attention backend found", None, False, "replan"),
    FailureRow("visibility", r"World size \((\d+)\) is larger than", None, False, "next_plan"),
)
_OOM: Final = r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory"
# Out-of-memory errors of the GPU, by the stage of the start.
STAGE_ROWS: Final = {
    "loading": FailureRow("load_oom", _OOM, "memory", False, "next_plan"),
    "profiling": FailureRow("profile_oom", _OOM, "memory", False, "replan"),
    "capturing": FailureRow("capture_oom", _OOM, "memory", False, "replan"),
}
# Failures without a remedy of the planner: the first row that matches any line.
OTHER_ROWS: Final = (
    FailureRow(
        "flag", r"error: (?:unrecognized arguments|argument )|no such option", "flag", True, "operator"
    ),
    FailureRow(
        "context",
        r"is larger than the maximum number of tokens that can be stored in KV cache",
        "context",
        True,
        "operator",
    ),
    FailureRow("positions", r"User-specified max_model_len", "positions", True, "operator"),
    FailureRow("kv_cache", r"less than requested memory for kv", "kv_cache", True, "operator"),
    FailureRow(
        "memory",
        (
            r"out of memory|OutOfMemoryError|Cannot allocate memory|MemoryError|desired GPU memory utilization"
            r"|less than desired CPU memory utilization"
        ),
        "memory",
        False,
        "restart",
    ),
    FailureRow(
        "device",
        r"No CUDA GPUs are available|CUDA driver|NVML|no kernel image is available|invalid device ordinal",
        "device",
        False,
        "restart",
    ),
    FailureRow(
        "import",
        r"ModuleNotFoundError|ImportError|undefined symbol|PackageNotFoundError",
        "import",
        True,
        "operator",
    ),
    FailureRow(
        "model",
        r"not supported for now|Unrecognized model|safetensors_rust|config\.json|Invalid repository ID"
        r"|weights? .*not initialized|PermissionError|NotADirectoryError",
        "model",
        True,
        "operator",
    ),
    FailureRow(
        "core_died",
        r"EngineCore failed to start|died unexpectedly|EngineDeadError",
        "core_died",
        False,
        "restart",
    ),
)
_PLAN_PATTERNS: Final = tuple((row, re.compile(row.pattern)) for row in PLAN_ROWS)
_OTHER_PATTERNS: Final = tuple((row, re.compile(row.pattern)) for row in OTHER_ROWS)
_OOM_PATTERN: Final = re.compile(_OOM)
_LOADED: Final = "Model loading took"
_CAPTURE: Final = re.compile(r"Capturing CUDA graph|Available KV cache memory")
_ERROR: Final = re.compile(r"(?:\w+Error|\w+Exception|error): .+")
_OTHER_LINES: Final = 60
_TEXT_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class StartFailure:
    """A failed start, for the restart policy and start recovery.

    `numbers` are the numbers of the log line, in order. `text` is the engine's own line, for the node's owner only.
    """

    cause: FailureCause
    numbers: tuple[float, ...] = ()
    permanent: bool = False
    remedy: RemedyClass = "restart"
    code: EndCode = "unknown"
    text: str = ""

    @property
    def replannable(self) -> bool:
        """True if the planner has a remedy: another plan, or another attempt."""
        return self.remedy not in ("operator", "restart")


def classify(lines: Sequence[str]) -> StartFailure:
    """The cause of a failed start, from the end of the log: first causes with a planner's remedy, then all others."""
    other = _other(lines[-_OTHER_LINES:])
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        for row, pattern in _PLAN_PATTERNS:
            if (found := pattern.search(line)) is not None:
                numbers = tuple(float(number) for number in found.groups() if number is not None)
                return _failure(row, numbers, row.code or other.code, line)
        if _OOM_PATTERN.search(line):
            row = STAGE_ROWS[_stage(lines)]
            return _failure(row, (), row.code or other.code, line)
    return other


def _other(lines: Sequence[str]) -> StartFailure:
    for row, pattern in _OTHER_PATTERNS:
        if line := next((line for line in lines if pattern.search(line)), None):
            return _failure(row, (), row.code or "unknown", line)
    text = next((line for line in reversed(lines) if _ERROR.search(line)), "")
    return StartFailure("unknown", text=_trim(text))


def _stage(lines: Sequence[str]) -> str:
    if not any(_LOADED in line for line in lines):
        return "loading"
    return "capturing" if any(_CAPTURE.search(line) for line in lines) else "profiling"


def _failure(row: FailureRow, numbers: tuple[float, ...], code: EndCode, line: str) -> StartFailure:
    return StartFailure(row.cause, numbers, row.permanent, row.remedy, code, _trim(line))


def _trim(line: str) -> str:
    found = _ERROR.search(line)
    return (found[0] if found else line.strip())[:_TEXT_CHARS]

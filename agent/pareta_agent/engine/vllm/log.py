"""vLLM's start-up log as phases and measures, and its ends as what happened. Pure, one line at a time.

The patterns hold for 0.25 to 0.33; a line that says nothing to us is None. What to do about a failure is
the planner's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measures:
    """What an engine found out about itself while it started; None where it has not said."""

    version: str | None = None
    weights_gib: float | None = None
    load_s: float | None = None
    kv_gib: float | None = None
    kv_tokens: int | None = None
    compile_s: float | None = None
    capture_gib: float | None = None


_PHASES: tuple[tuple[str, str], ...] = (
    (r"Starting to load model", "load"),
    (r"Loading weights took|Model loading took [\d.]+ GiB", "profile"),
    (r"Start compiling function|Dynamo bytecode transform time", "compile"),
    (r"Compiling a graph for compile range .* takes [\d.]+ s", "compile"),
    (r"torch\.compile took|Initial profiling/warmup run took", "profile"),
    (r"Capturing CUDA graph|CUDA graph sizes", "capture"),
    (r"Graph capturing finished in \d+ secs", "profile"),
    (r"init engine \(profile, create kv cache, warmup model\) took", "probe"),
    (r"Application startup complete", "probe"),
)
_MEASURES: tuple[tuple[str, str, Callable[[str], float | int | str]], ...] = (
    (r"vLLM server version ([^\s,]+)", "version", str),
    (r"Model loading took ([\d.]+) GiB", "weights_gib", float),
    (r"Loading weights took ([\d.]+) seconds", "load_s", float),
    (r"Available KV cache memory: ([\d.]+) GiB", "kv_gib", float),
    (r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens", "kv_tokens", lambda text: int(text.replace(",", ""))),
    (r"Compiling a graph for compile range .* takes ([\d.]+) s", "compile_s", float),
    (r"Graph capturing finished in \d+ secs, took ([\d.]+) GiB", "capture_gib", float),
)
_PHASE_PATTERNS = [(re.compile(pattern), phase) for pattern, phase in _PHASES]
_MEASURE_PATTERNS = [(re.compile(pattern), name, convert) for pattern, name, convert in _MEASURES]
_SHARDS = re.compile(r"Loading safetensors checkpoint shards:.*?(\d+)/(\d+)")


def phase_of(line: str) -> str | None:
    """The phase that begins with this line."""
    return next((phase for pattern, phase in _PHASE_PATTERNS if pattern.search(line)), None)


def shards_of(line: str) -> tuple[int, int] | None:
    """Checkpoint shards loaded and in all, from vLLM's progress bar."""
    found = _SHARDS.search(line)
    return (int(found[1]), int(found[2])) if found else None


def measures_of(lines: Sequence[str]) -> Measures:
    """Every measure in the log; the last word counts."""
    found: dict[str, float | int | str] = {}
    for line in lines:
        for pattern, name, convert in _MEASURE_PATTERNS:
            if match := pattern.search(line):
                found[name] = convert(match[1])
    return Measures(**found)  # type: ignore[arg-type]


def merge(earlier: Measures, later: Measures) -> Measures:
    """What both said; the later word counts."""
    said = {name: value for name in Measures.__slots__ if (value := getattr(later, name)) is not None}
    return replace(earlier, **said)


Cause = Literal[
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

_CAUSES: tuple[tuple[Cause, str], ...] = (
    ("flag", r"error: (?:unrecognized arguments|argument )|no such option"),
    ("context", r"is larger than the maximum number of tokens that can be stored in KV cache"),
    ("context", r"max seq len \(\d+\)"),
    ("positions", r"User-specified max_model_len"),
    ("step", r"max_num_batched_tokens \(\d+\) is smaller than max_model_len"),
    ("kv_cache", r"No available memory for the cache blocks|less than requested memory for kv"),
    (
        "memory",
        r"out of memory|OutOfMemoryError|Cannot allocate memory|MemoryError|desired GPU memory utilization",
    ),
    ("memory", r"less than desired CPU memory utilization"),
    (
        "device",
        r"No CUDA GPUs are available|CUDA driver|NVML|no kernel image is available|invalid device ordinal",
    ),
    ("import", r"ModuleNotFoundError|ImportError|undefined symbol|PackageNotFoundError"),
    (
        "model",
        r"not supported for now|Unrecognized model|safetensors_rust|config\.json|Invalid repository ID",
    ),
    ("model", r"weights? .*not initialized|PermissionError|NotADirectoryError"),
    ("core_died", r"EngineCore failed to start|died unexpectedly|EngineDeadError"),
)
_CAUSE_PATTERNS = [(cause, re.compile(pattern)) for cause, pattern in _CAUSES]
_SAID = re.compile(r"(?:\w+Error|\w+Exception|error): .+")
_PERMANENT: frozenset[Cause] = frozenset(
    {"flag", "context", "positions", "step", "kv_cache", "import", "model"}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What ended an engine. `said` is its own words, for the node's owner only; `permanent`: it would recur."""

    cause: Cause
    said: str
    permanent: bool


def classify(lines: Sequence[str]) -> Failure:
    """The first cause, in the order of the table, that any line shows."""
    for cause, pattern in _CAUSE_PATTERNS:
        if line := next((line for line in lines if pattern.search(line)), None):
            return Failure(cause, _trim(line), cause in _PERMANENT)
    said = next((line for line in reversed(lines) if _SAID.search(line)), "")
    return Failure("unknown", _trim(said), permanent=False)


def _trim(line: str) -> str:
    found = _SAID.search(line)
    return (found[0] if found else line.strip())[:300]

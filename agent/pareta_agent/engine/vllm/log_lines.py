"""Startup log: maps vLLM's start-up lines to phases and measures. Pure, line by line.

The patterns hold for 0.25 to 0.33; a line without a phase is None. `planning/start_failure.py` reads failed starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StartMeasures:
    """Measures that an engine logged during the start; None where absent."""

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


def measures_of(lines: Sequence[str]) -> StartMeasures:
    """Every measure in the log; the last word counts."""
    found: dict[str, float | int | str] = {}
    for line in lines:
        for pattern, name, convert in _MEASURE_PATTERNS:
            if match := pattern.search(line):
                found[name] = convert(match[1])
    return StartMeasures(**found)  # type: ignore[arg-type]


def merge(earlier: StartMeasures, later: StartMeasures) -> StartMeasures:
    """The measures of both; the later value counts."""
    said = {name: value for name in StartMeasures.__slots__ if (value := getattr(later, name)) is not None}
    return replace(earlier, **said)

"""Startup log: phases and measures from vLLM's lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_agent.engine.vllm.log_lines import StartMeasures, measures_of, merge, phase_of, shards_of

REAL = Path(__file__).resolve().parents[3] / "data" / "engine" / "startup-0.32.0-cpu.log"


def test_a_real_cpu_start_is_read() -> None:
    """The phases of vLLM 0.32 on CPU, in order, and what it measured."""
    lines = REAL.read_text().splitlines()
    phases = [phase for line in lines if (phase := phase_of(line))]
    assert list(dict.fromkeys(phases)) == ["load", "profile", "probe"]
    assert measures_of(lines) == StartMeasures(version="0.32.0", load_s=1.76, kv_tokens=11_648)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("(Worker) Model loading took 14.96 GiB memory and 3.1 seconds", {"weights_gib": 14.96}),
        ("Available KV cache memory: 51.02 GiB", {"kv_gib": 51.02}),
        ("GPU KV cache size: 417,952 tokens", {"kv_tokens": 417_952}),
        ("Compiling a graph for compile range (1, 8192) takes 12.5 s", {"compile_s": 12.5}),
        ("Graph capturing finished in 9 secs, took 0.62 GiB", {"capture_gib": 0.62}),
    ],
)
def test_cuda_lines_are_measures(line: str, expected: dict[str, float]) -> None:
    """Each number that the planner is corrected by."""
    assert measures_of([line]) == StartMeasures(**expected)  # type: ignore[arg-type]


def test_later_measures_win_and_silence_changes_nothing() -> None:
    """Merging keeps what was said before."""
    assert merge(StartMeasures(version="1", kv_tokens=1), StartMeasures(kv_tokens=2)) == StartMeasures(
        version="1", kv_tokens=2
    )


def test_shards_are_progress() -> None:
    """vLLM's progress bar in numbers."""
    assert shards_of("Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:01<00:03]") == (1, 4)

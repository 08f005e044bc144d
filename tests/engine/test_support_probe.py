"""The shipped support table against the installed engine's own selectors."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from planner_values import LLAMA_8B

from pareta_agent.planning.support import engine_probe
from pareta_agent.planning.support.probe import cached, probed
from pareta_agent.planning.support.support import kv_fp8, uses_flashinfer
from pareta_agent.planning.support.support_snapshot import CAPABILITIES, SNAPSHOTS

pytestmark = [pytest.mark.engine, pytest.mark.long]
VERSION = "0.32.0"


async def test_snapshot_is_what_the_selectors_answer(engine_python: Path, tmp_path: Path) -> None:
    """Every format and compute capability of the snapshot, asked again of the installed vLLM; then cached."""
    asked = await probed(engine_python, tmp_path, VERSION)
    expected = {form: dict(row) for form, row in SNAPSHOTS[asked.version].items()}
    assert expected == {form: dict(row) for form, row in asked.kernels.items()}
    assert asked == cached(tmp_path, VERSION)
    assert len(CAPABILITIES) == len(expected["fp8"])


def test_cache_dtypes_are_what_the_attention_backends_allow(engine_python: Path) -> None:
    """An fp8 cache, and FlashInfer's workspace, by compute capability, head size and sinks.

    Triton's kernel refuses fp8 below 8.9 only when it runs, which its rules do not say.
    """
    program = Path(__file__).parents[1] / "fakes" / "attention_asked.py"
    folder = Path(engine_probe.__file__).parent
    done = subprocess.run(
        [str(engine_python), "-W", "ignore", str(program), str(folder), *CAPABILITIES],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    for text, answers in told["answers"].items():
        major, minor = (int(part) for part in text.split("."))
        for (head, kv, sinks), backends in zip(told["asked"], answers, strict=True):
            arch = LLAMA_8B.model_copy(update={"head_dim": head, "attention_sinks": sinks})
            asked = (text, head, kv, sinks, backends)
            assert uses_flashinfer(arch, (major, minor), kv or "auto") == (backends[0] == "FLASHINFER"), asked
            if kv == "fp8":
                possible = backends[0] != "TRITON_ATTN" or (major, minor) >= (8, 9)
                assert kv_fp8(arch, (major, minor)) == possible, asked

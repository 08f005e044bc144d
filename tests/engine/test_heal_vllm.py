"""A start that must fail, on real vLLM: its own words are understood, and one re-plan later it is up."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from planner_values import SMOLLM2, SMOLLM2_CONFIG, host, variant

from pareta_agent.planning.choose import plan
from pareta_agent.planning.heal import classify, remedy
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import PlanRequest

pytestmark = [pytest.mark.engine, pytest.mark.long]

ENGINE = """
import sys

if __name__ == "__main__":
    from vllm import LLM

    LLM(
        model=sys.argv[1], load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, dtype="bfloat16",
        max_model_len=int(sys.argv[2]), kv_cache_memory_bytes=int(sys.argv[3]), max_num_seqs=16,
        max_num_batched_tokens=2048, distributed_executor_backend="uni",
    )
    print("UP")
"""


def start(engine_python: Path, folder: Path, chosen: Plan) -> tuple[bool, str]:
    """Whether an engine with this plan's context and cache came up, and what it said."""
    (folder / "config.json").write_text(json.dumps(SMOLLM2_CONFIG))
    (folder / "engine.py").write_text(ENGINE)
    done = subprocess.run(
        [
            str(engine_python),
            str(folder / "engine.py"),
            str(folder),
            str(chosen.max_model_len),
            str(chosen.kv_cache_bytes),
        ],
        env=os.environ
        | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_COLOR": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=140,
    )
    return done.stdout.endswith("UP\n"), done.stdout


def test_an_impossible_context_comes_up_after_one_replan(engine_python: Path, tmp_path: Path) -> None:
    """8,192 tokens in a cache of 64 MiB: vLLM names the length that fits, and starts with it."""
    possible = plan(SMOLLM2, [variant(gib=0.2506)], host(), PlanRequest()).best
    assert possible is not None
    impossible = replace(possible, kv_cache_bytes=64 << 20)
    up, log = start(engine_python, tmp_path, impossible)
    assert not up
    failure = classify(log)
    assert failure.kind == "context"
    healed = remedy(failure, impossible, attempt=1)
    assert isinstance(healed, Plan)
    assert 2048 <= healed.max_model_len < 8192
    assert replace(healed, max_model_len=impossible.max_model_len) == impossible
    up, log = start(engine_python, tmp_path, healed)
    assert up, log[-2000:]

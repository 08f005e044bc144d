"""The closed form against vLLM itself: weights and KV tokens of the demo model's shape, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from planner_values import SMOLLM2, SMOLLM2_CONFIG, host, variant

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.learn import learn
from pareta_agent.planning.request import PlanRequest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SHAPES = [(2048, "bfloat16"), (8192, "bfloat16"), (4096, "float32")]
CHECKPOINT_BYTES = 269_030_016
ENGINE = """
import gc, json, sys

if __name__ == "__main__":
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.model_executor.model_loader import base_loader

    packed = base_loader.process_weights_after_loading

    def counted(model, *more):  # afterwards the CPU's kernels hold the weights where no parameter shows them
        print("WEIGHTS", sum(p.numel() * p.element_size() for p in model.parameters()), flush=True)
        return packed(model, *more)

    base_loader.process_weights_after_loading = counted
    for length, dtype in json.loads(sys.argv[2]):
        print(f"ENGINE {length} {dtype}", flush=True)
        engine = LLM(
            model=sys.argv[1], load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, dtype=dtype,
            max_model_len=length, max_num_seqs=16, max_num_batched_tokens=2048, kv_cache_memory_bytes=1 << 30,
            distributed_executor_backend="uni",
        )
        del engine
        gc.collect()
        cleanup_dist_env_and_memory()
"""


@pytest.fixture(scope="module")
def log(engine_python: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The log of one process that makes an engine of every shape, from shapes alone."""
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "config.json").write_text(json.dumps(SMOLLM2_CONFIG))
    program = folder / "engine.py"
    program.write_text(ENGINE)
    done = subprocess.run(
        [str(engine_python), str(program), str(folder), json.dumps(SHAPES)],
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
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize(("length", "dtype"), SHAPES)
def test_weights_and_kv_tokens_within_five_percent(log: str, length: int, dtype: str) -> None:
    """What the planner says before the start is what the engine says at it."""
    request = PlanRequest(max_model_len=length, settings={"dtype": dtype}, kv_cache_bytes=GIB)
    planned = plan(SMOLLM2, [variant(gib=CHECKPOINT_BYTES / GIB)], host(), request).best
    assert planned is not None
    said = log.partition(f"ENGINE {length} {dtype}\n")[2].partition("ENGINE ")[0]
    weights = int(said.partition("WEIGHTS ")[2].split()[0])
    tokens = int(said.partition("KV cache size: ")[2].split()[0].replace(",", ""))
    assert planned.footprint.weights_bytes == pytest.approx(weights, rel=0.05)
    assert planned.kv_tokens == pytest.approx(tokens, rel=0.05)
    assert learn(planned, said).kv_per_mille == pytest.approx(1000, abs=50)

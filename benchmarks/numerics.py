"""How far rounding moves a greedy answer: the demo model's margins on this processor, by dtype.

    python benchmarks/numerics.py [--out benchmarks/results/numerics.json]

A margin is the lead of the chosen token over the next one, in nats; an answer's margin is its smallest one up to the
expected word. An answer whose margin is below what rounding moves is decided by the instruction set, not by the model.
The kernels' own errors against float32 stand beside it (`pareta-agent engine check --json`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

QUESTIONS = {
    "What is the capital of France?": "Paris",
    "What is the capital of Italy?": "Rome",
    "What is the capital of Germany?": "Berlin",
    "How many days are in a week?": "7",
    "What is the opposite of hot?": "cold",
    "What is the opposite of black?": "white",
    "What is the opposite of up?": "down",
}
DTYPES = ("float32", "bfloat16")
RESULTS = Path(__file__).parent / "results" / "numerics.json"


def ask(model: str, dtype: str) -> list[dict[str, Any]]:
    """Runs in the engine's interpreter: each question's answer and margin."""
    import vllm  # type: ignore[import-not-found,unused-ignore]

    engine = vllm.LLM(
        model, dtype=dtype, enforce_eager=True, max_model_len=1024, max_num_seqs=8, max_logprobs=2
    )
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS]
    answers = engine.chat(
        asked, vllm.SamplingParams(temperature=0, max_tokens=16, logprobs=2), use_tqdm=False
    )
    found = []
    for (question, word), answer in zip(QUESTIONS.items(), answers, strict=True):
        text, margins = "", list[float]()
        for step in answer.outputs[0].logprobs:
            first, second = sorted(step.values(), key=lambda one: -one.logprob)[:2]
            margins.append(first.logprob - second.logprob)
            text += first.decoded_token
            if word in text:
                break
        found.append(
            {"question": question, "answer": text, "right": word in text, "margin": round(min(margins), 3)}
        )
    return found


async def measure() -> dict[str, Any]:
    from pareta_agent import config
    from pareta_agent.hardware.nvml import read_inventory
    from pareta_agent.hardware.processor import read_processor
    from pareta_agent.kernel_check import check as kernels
    from pareta_agent.node.engine_interpreter import EngineProgram

    settings, _ = config.load({})
    pulled = [sys.executable, "-m", "pareta_agent", "pull", "contract-key-fields", "--json"]
    model = json.loads(
        subprocess.run(pulled, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    engine = EngineProgram(settings, read_inventory(), print)
    checked = await engine.check(again=True)
    python = next(path for path in [await python_of(engine)] if path)
    answers = {dtype: run(python, model["path"], dtype) for dtype in DTYPES}
    return {
        "vllm": checked.version,
        "processor": read_processor().key,
        "kernels": list(kernels.table(checked)),
        "answers": answers,
    }


async def python_of(engine: Any) -> str:
    found: list[Path] = []
    engine.use = lambda path, _version: found.append(path)
    await engine.ready()
    return str(found[0])


def run(python: str, model: str, dtype: str) -> Any:
    env = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_PLUGINS": ""}
    env |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"}
    argv = [python, "-W", "ignore", __file__, "--ask", model, dtype]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout
    return json.loads(next(line for line in said.splitlines() if line.startswith("[{")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ask", nargs=2, metavar=("MODEL", "DTYPE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        print("\n" + json.dumps(ask(*given.ask)))
        return
    given.out.write_text(json.dumps(asyncio.run(measure()), indent=1) + "\n")
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()

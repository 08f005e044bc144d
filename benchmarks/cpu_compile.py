"""Measures what torch's compiler is worth to an eager engine on the CPU: benchmarks/results/cpu_compile.json.

    python benchmarks/cpu_compile.py [--rounds 2] [--json FILE]

What vLLM compiles on the CPU beside the model (log-probabilities, the sampler), in the engine's interpreter, with the
compiler and with TORCHDYNAMO_DISABLE=1, in turns and with an empty cache each: seconds of the first call of a batch of
one and of several, and microseconds of the calls that follow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
PROGRAM = """
import json, os, statistics, sys, time
import torch
from vllm.v1.sample.ops.logprobs import batched_count_greater_than as ranks
from vllm.v1.sample.ops.topk_topp_sampler import compiled_random_sample as sample
torch.set_num_threads(1)
VOCAB = 49152

def timed(call):
    begun = time.monotonic()
    call()
    return time.monotonic() - begun

found = {}
for name, work in (("logprobs", lambda x: ranks(x, x[:, :1])), ("sampler", lambda x: sample(x))):
    firsts = []
    for batch in (1, 2, 8):
        logits = torch.randn(batch, VOCAB)
        firsts.append(timed(lambda: work(logits)))
        later = [timed(lambda: work(logits)) for _ in range(50)]
        found[f"{name}_{batch}_us"] = round(1e6 * statistics.median(later), 1)
    found[f"{name}_first_calls_s"] = round(sum(firsts), 3)
spent = os.times()
found["cpu_s"] = round(spent.user + spent.system + spent.children_user + spent.children_system, 1)
print(json.dumps(found))
"""


def run(python: Path, *, disabled: bool) -> dict[str, Any]:
    """One interpreter's life and what it took."""
    with tempfile.TemporaryDirectory(prefix="cc-") as root:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "TORCH"))}
        env |= {
            "TMPDIR": root,
            "TORCHINDUCTOR_CACHE_DIR": f"{root}/inductor",
            "VLLM_CACHE_ROOT": f"{root}/vllm",
        }
        env |= {"TORCHDYNAMO_DISABLE": "1"} if disabled else {}
        done = subprocess.run(
            [python, "-c", PROGRAM], env=env, cwd=root, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return {"compiler": "off" if disabled else "on", **json.loads(done.stdout.splitlines()[-1])}


def medians(rows: list[dict[str, Any]], how: str) -> dict[str, float]:
    of = [row for row in rows if row["compiler"] == how]
    return {name: statistics.median(row[name] for row in of) for name in of[0] if name != "compiler"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "cpu_compile.json")
    options = parser.parse_args()
    python = next(CACHE.glob("engines/cpu-*/bin/python"))
    rows = [run(python, disabled=disabled) for disabled in [False, True] * options.rounds]
    on, off = medians(rows, "on"), medians(rows, "off")
    saved_us = {name: round(off[name] - on[name], 1) for name in on if name.endswith("_us")}
    found = {"cores": os.cpu_count(), "on": on, "off": off, "saved_by_the_compiler": saved_us}
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Plans against reality: a shape without weights is planned, started, and compared with what the engine logged."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ground import Ground
from shapes import Shape

from pareta_agent import processes
from pareta_agent.hardware.inventory import GIB
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.planning.choose import plan
from pareta_agent.planning.memory.learn import learn
from pareta_agent.planning.plan import Plan
from pareta_agent.planning.request import PlanRequest

_SERVED = re.compile(r"Maximum concurrency for ([\d,]+) tokens per request")
_LAST_WORDS = 2000
_HARMONY = "from openai_harmony import *; load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)"
_HARMONY_S = 60.0
_NO_VOCABULARY = "no vocabulary for it (TIKTOKEN_ENCODINGS_BASE names a folder with o200k_base.tiktoken)"


async def compare(ground: Ground, shape: Shape) -> dict[str, Any]:
    """Each term predicted and logged, with its error; or why the shape was not tried, not planned, or did not start."""
    if shape.speaks_harmony and (lacking := await no_vocabulary(ground.python)):
        return {"shape": shape.name, "skipped": lacking}
    request = PlanRequest(replicas=1, engine_version=ground.version)
    report = plan(shape.architecture, [shape.variant], read_inventory(), request)
    row: dict[str, Any] = {"shape": shape.name, "layers": shape.architecture.layers, "quant": shape.quant}
    if report.best is None:
        return {**row, "rejected": [asdict(one) for one in report.rejections]}
    best = replace(report.best, flags=(*report.best.flags, *shape.flags))
    bench = ground.bench(wanted=best, weights=ground.shapes_folder(shape.name, shape.config))
    log = bench.settings.log_dir / "ep_bench-0.log"
    try:
        row["live_s"] = round(await bench.deploy(), 1)
    except SystemExit as failed:
        return {**row, "failed": str(failed), "log": last_words(log)}
    finally:
        await bench.fleet.close(5)
    phases = {phase: round(spent, 2) for phase, spent in bench.reports[-1].phases.items()}
    return {**row, "phases_s": phases, "plan": knobs(best), **terms(best, log.read_text(errors="replace"))}


async def no_vocabulary(python: Path) -> str | None:
    """Why this engine could not speak Harmony, or None: its vocabulary comes from a folder or over the network."""
    try:
        asked = await processes.run([str(python), "-I", "-c", _HARMONY], timeout_s=_HARMONY_S)
    except TimeoutError:
        return f"{_NO_VOCABULARY}: it did not come within {_HARMONY_S:.0f} s"
    last = (asked.output.strip().splitlines() or ["it said nothing"])[-1]
    return None if asked.returncode == 0 else f"{_NO_VOCABULARY}: {last}"


def knobs(best: Plan) -> dict[str, Any]:
    names = ("dtype", "kv_cache_dtype", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization")
    return {name: getattr(best, name) for name in (*names, "enforce_eager")}


def terms(best: Plan, log: str) -> dict[str, Any]:
    """Weights, everything else, cache, KV tokens and the context; a term that the engine did not log has no error."""
    found, held = learn(best, log), best.footprint
    cache = re.findall(r"Available KV cache memory: ([\d.]+) GiB", log)
    tokens = re.findall(r"KV cache size: ([\d,]+) tokens", log)
    served = _SERVED.findall(log)
    other = held.activation_bytes + held.graphs_bytes + held.overhead_bytes
    rows = {
        "weights_gib": (held.weights_bytes / GIB, gib(found.weights_bytes)),
        "other_gib": (other / GIB, gib(found.other_bytes)),
        "kv_cache_gib": (held.kv_bytes / GIB, float(cache[-1]) if cache else None),
        "kv_tokens": (best.kv_tokens, number(tokens)),
        "max_model_len": (best.max_model_len, number(served)),
    }
    return {name: term(*pair) for name, pair in rows.items()}


def term(predicted: float, logged: float | None) -> dict[str, float | None]:
    error = round(predicted / logged - 1, 4) if logged else None
    return {"predicted": round(predicted, 3), "logged": logged, "error": error}


def gib(count: int | None) -> float | None:
    return None if count is None else round(count / GIB, 3)


def number(found: list[str]) -> int | None:
    return int(found[-1].replace(",", "")) if found else None


def last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-_LAST_WORDS:] if log.exists() else ""

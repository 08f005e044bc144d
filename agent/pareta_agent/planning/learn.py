"""From the log of a start that worked to the numbers that correct the next plan. Pure.

The lines are vLLM's own (gpu_worker.py, kv_cache_utils.py); on CPU the cache line says `CPU KV cache size`.
"""

from __future__ import annotations

import re
from typing import Final

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.footprint import Caps
from pareta_agent.planning.layout import Layout
from pareta_agent.planning.measured import Key, Numbers
from pareta_agent.planning.plan import Plan

_WEIGHTS: Final = re.compile(r"Model loading took ([\d.]+) GiB")
_AVAILABLE: Final = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
_TOKENS: Final = re.compile(r"KV cache size: ([\d,]+) tokens")


def learn(plan: Plan, log: str) -> Numbers:
    """What the log of this plan's engine says about one rank; the last rank's line where several speak."""
    weights = _gib(_WEIGHTS, log)
    available = _gib(_AVAILABLE, log)
    tokens = _TOKENS.findall(log)
    footprint = plan.footprint
    budget = (
        footprint.weights_bytes
        + footprint.activation_bytes
        + footprint.graphs_bytes
        + footprint.overhead_bytes
        + footprint.kv_bytes
    )
    other = None if weights is None or available is None else max(0, budget - weights - available)
    cache = available if available is not None else plan.kv_cache_bytes
    per_mille = None
    if tokens and cache and plan.kv_tokens and footprint.kv_bytes:
        expected = plan.kv_tokens * cache // footprint.kv_bytes
        per_mille = 1000 * int(tokens[-1].replace(",", "")) // max(expected, 1)
    return Numbers(Caps(plan.max_num_batched_tokens, plan.max_num_seqs), weights, other, per_mille)


def key_of(plan: Plan, artifact: str, gpu_name: str) -> Key:
    """The record's key of a plan whose weights are `artifact`, on GPUs of this name (`cpu` without one)."""
    return Key(
        artifact=artifact,
        variant=plan.variant,
        gpu=gpu_name,
        layout=Layout(plan.tp, plan.pp, plan.dp, plan.expert_parallel),
        dtype=plan.dtype,
        kv_dtype=plan.kv_cache_dtype,
        eager=plan.enforce_eager,
        flags=plan.flags,
    )


def _gib(pattern: re.Pattern[str], log: str) -> int | None:
    found = pattern.findall(log)
    return int(float(found[-1]) * GIB) if found else None

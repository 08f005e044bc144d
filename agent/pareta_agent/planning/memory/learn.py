"""Start log parser: extracts from the log of a successful start the numbers that correct the next plan. Pure.

The lines are vLLM's (gpu_worker.py, kv_cache_utils.py). On the CPU the cache line begins with `CPU KV cache size`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.memory.footprint import Caps
from pareta_agent.planning.memory.measured import Key, Measured, Numbers
from pareta_agent.planning.placement.layout import Layout
from pareta_agent.planning.plan import Plan

_WEIGHTS: Final = re.compile(r"Model loading took ([\d.]+) GiB")
_AVAILABLE: Final = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
_TOKENS: Final = re.compile(r"KV cache size: ([\d,]+) tokens")


def learn(plan: Plan, log: str) -> Numbers:
    """The numbers of one rank in the engine's log; if several ranks log, the last line counts."""
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
    """The measurement key of a plan with the weights `artifact`, on GPUs of this name (`cpu` without a GPU)."""
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


def remember(measured: Measured, failed: Plan, worked: Plan, artifact: str, gpu_name: str) -> Measured:
    """Stores the change that made a failed start work: no graphs, another cache dtype, or smaller caps.

    A shorter context and a smaller share of the GPU are not stored: the first follows from the measured bytes, the
    second from the free memory at the time.
    """
    before, after = key_of(failed, artifact, gpu_name), key_of(worked, artifact, gpu_name)
    if before.kv_dtype != after.kv_dtype:
        return measured.avoiding(replace(before, eager=False), replace(before, eager=True))
    if before.eager != after.eager:
        return measured.avoiding(before)
    caps = Caps(worked.max_num_batched_tokens, worked.max_num_seqs)
    if caps != Caps(failed.max_num_batched_tokens, failed.max_num_seqs):
        return measured.capped(after, caps)
    return measured


def _gib(pattern: re.Pattern[str], log: str) -> int | None:
    found = pattern.findall(log)
    return int(float(found[-1]) * GIB) if found else None

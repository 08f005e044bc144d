"""Start remedies: changes one setting of a plan whose start failed, or rejects the candidate. Pure.

After a rejection start recovery takes the next candidate of the report. A planner's mistake is never retried.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.plan import Plan, Rejection
from pareta_agent.planning.start_failure import FailureCause, StartFailure

MAX_ATTEMPTS: Final = 4
_CONTEXT_GIB: Final = 0.5
_LEAST_CONTEXT: Final = 256
_LEAST_TOKENS: Final = 512
_CPU_CACHE_SHARE: Final = 0.8


def remedy(failure: StartFailure, plan: Plan, attempt: int, *, kv_fp8: bool = False) -> Plan | Rejection:
    """The plan for the next attempt, with one setting changed, or the rejection.

    `attempt` counts the failed starts of this candidate, from 1. `kv_fp8`: the GPU's attention backend supports an fp8
    cache (`support.kv_fp8`).
    """
    if attempt >= MAX_ATTEMPTS:
        return _over(plan, f"{attempt} starts failed, the last with {failure.cause}")
    if failure.cause == "context":
        return _shorter(failure, plan, kv_fp8)
    if failure.cause == "step":
        return _whole_prompt(failure, plan, attempt)
    return _REMEDIES.get(failure.cause, _unknown)(failure, plan)


def _less_utilization(failure: StartFailure, plan: Plan) -> Plan | Rejection:
    """Claims the free memory; rejects if the free memory is less than the plan requires without any cache."""
    free, total = failure.numbers
    share = math.floor((free - _CONTEXT_GIB) / total * 1000) / 1000
    footprint = plan.footprint
    held = (
        footprint.weights_bytes
        + footprint.activation_bytes
        + footprint.graphs_bytes
        + footprint.overhead_bytes
    )
    cache = int(share * total * GIB) - held
    if plan.gpu_memory_utilization is None or share >= plan.gpu_memory_utilization or cache <= 0:
        return _over(plan, "other programs hold the GPU's memory", held, max(0, int(share * total * GIB)))
    ratio = cache / max(footprint.kv_bytes, 1)
    length = min(plan.max_model_len, int(plan.kv_tokens * ratio))
    if length < _LEAST_CONTEXT:
        return _over(plan, "other programs hold the GPU's memory", held, max(0, int(share * total * GIB)))
    return replace(plan, gpu_memory_utilization=share, max_model_len=length)


def _less_cpu_cache(failure: StartFailure, plan: Plan) -> Plan | Rejection:
    available = failure.numbers[0] * GIB
    cache = int(available * _CPU_CACHE_SHARE)
    if plan.kv_cache_bytes is None or cache >= plan.kv_cache_bytes:
        return _over(plan, "other programs hold the host's memory", plan.kv_cache_bytes, int(available))
    length = min(plan.max_model_len, cache // max(plan.footprint.kv_bytes_per_token, 1))
    if length < _LEAST_CONTEXT:
        return _over(plan, "other programs hold the host's memory", plan.kv_cache_bytes, int(available))
    return replace(plan, kv_cache_bytes=cache, max_model_len=length)


def _shorter(failure: StartFailure, plan: Plan, kv_fp8: bool) -> Plan | Rejection:
    """Selects an fp8 cache, which stores twice as much, else the length that vLLM's log estimates."""
    fits = int(failure.numbers[1]) if len(failure.numbers) > 1 else 0
    if kv_fp8 and plan.kv_cache_dtype == "auto" and 2 * fits >= plan.max_model_len:
        return replace(plan, kv_cache_dtype="fp8")
    if _LEAST_CONTEXT <= fits < plan.max_model_len:
        return replace(plan, max_model_len=fits)
    return _over(plan, f"the cache holds {fits:,} tokens of context")


def _within_positions(failure: StartFailure, plan: Plan) -> Plan | Rejection:
    """Reduces the length to the model's own limit, the larger of two in vLLM's log. Memory plays no part."""
    takes = int(max(failure.numbers[1:], default=0))
    if 0 < takes < plan.max_model_len:
        return replace(plan, max_model_len=takes)
    return _over(plan, f"the model takes {takes:,} tokens of context")


def _whole_prompt(failure: StartFailure, plan: Plan, attempt: int) -> Plan:
    """For a model that reads its prompt in one step: raises the step to the context, then lowers the context."""
    step, context = (int(number) for number in failure.numbers)
    return (
        replace(plan, max_num_batched_tokens=context) if attempt == 1 else replace(plan, max_model_len=step)
    )


def _fewer_tokens(_failure: StartFailure, plan: Plan) -> Plan | Rejection:
    if plan.max_num_batched_tokens // 2 < _LEAST_TOKENS:
        return _over(plan, "no step is small enough for the memory that weights leave")
    return replace(plan, max_num_batched_tokens=plan.max_num_batched_tokens // 2)


def _fewer_seqs(_failure: StartFailure, plan: Plan) -> Plan | Rejection:
    if plan.max_num_seqs <= 1:
        return _over(plan, "the memory does not suffice to sample one sequence")
    return replace(plan, max_num_seqs=plan.max_num_seqs // 2)


def _eager(_failure: StartFailure, plan: Plan) -> Plan | Rejection:
    """Turns CUDA graphs off: graphs use memory outside the claimed share, so a smaller share has no effect."""
    return (
        _over(plan, "out of memory without graphs")
        if plan.enforce_eager
        else replace(plan, enforce_eager=True)
    )


def _plain_cache(_failure: StartFailure, plan: Plan) -> Plan | Rejection:
    if plan.kv_cache_dtype == "auto":
        return _over(plan, "no attention backend takes this model on this GPU")
    return replace(plan, kv_cache_dtype="auto")


def _same(_failure: StartFailure, plan: Plan) -> Plan:
    return plan


def _ended(reason: str, nearest: str | None = None) -> Callable[[StartFailure, Plan], Rejection]:
    return lambda _failure, plan: replace(_over(plan, reason), nearest=nearest)


def _unknown(_failure: StartFailure, plan: Plan) -> Rejection:
    return _over(plan, "the start failed for an unknown reason")


def _over(plan: Plan, reason: str, need: int | None = None, have: int | None = None) -> Rejection:
    return Rejection(f"{plan.variant} tp{plan.tp} pp{plan.pp} dp{plan.dp}", reason, need, have)


_SMALLER: Final = "a smaller variant, or more GPUs a replica"
_REMEDIES: Final[dict[FailureCause, Callable[[StartFailure, Plan], Plan | Rejection]]] = {
    "memory_busy": _less_utilization,
    "cpu_memory": _less_cpu_cache,
    "positions": _within_positions,
    "no_cache": _ended("weights and activations left nothing for the KV cache", _SMALLER),
    "load_oom": _ended("the weights do not fit the GPU", _SMALLER),
    "profile_oom": _fewer_tokens,
    "sampler_oom": _fewer_seqs,
    "capture_oom": _eager,
    "memory_moved": _same,
    "indivisible": _ended("the planner chose a layout that vLLM refuses: please report the plan"),
    "kernel": _ended("vLLM has no kernel for these weights on this GPU"),
    "attention": _plain_cache,
    "visibility": _ended("the engine sees fewer GPUs than the plan names"),
}

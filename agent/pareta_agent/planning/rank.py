"""Ranking: sorts the fits by preference, then by speed, and explains the order in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from pareta_agent.planning.fit import Fit
from pareta_agent.planning.plan import Candidate, Plan
from pareta_agent.planning.roofline import Speed
from pareta_agent.planning.support.quant import Quant
from pareta_agent.planning.support.support import Kind
from pareta_registry.catalog import Variant

_TP_OVER_PCIE: Final = 2
_ROOMY_TOKENS: Final = 128 * 1024
_QUALITY_SLACK: Final = 0.02
_AS_TRAINED: Final = 1
_AFTER_EIGHT_BITS: Final = 3.5
_WORTH_EIGHT_BITS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Scored:
    """A fit with the inputs of ranking.

    - `natural_kv`: the KV dtype loses no quality beyond the weights' own loss.
    - `filled`: replicas take every GPU that fits, so idle GPUs count against a layout.
    - `busy`: the objective is throughput. `hurried`: the objective is latency.
    """

    fit: Fit
    plan: Plan
    kernel: str
    kind: Kind
    nvlink: bool
    natural_kv: bool
    filled: bool
    busy: bool
    hurried: bool
    speed: Speed
    score: float


def ranked(scored: Sequence[Scored], variants: Sequence[Variant]) -> tuple[Candidate, ...]:
    """Comfortable fits first, unquantized KV before fp8 KV, then by tier and score; tight fits by context.

    A lower tier comes first only if no layout of a higher tier is comfortable. Exception: 8 bits three times as
    fast come before 16 bits. A variant with a measured quality two points below the best comes last.
    """
    best_quality = max((variant.quality for variant in variants), default=1.0)
    tensor_parallel = _tensor_parallel(scored)
    crawls = _sixteen_bits_crawl(scored)

    def key(one: Scored) -> tuple[float, ...]:
        lossy = one.fit.variant.quality < best_quality - _QUALITY_SLACK
        preference: float = tier(one.fit.quant, one.kind)
        if crawls and preference == _AS_TRAINED:
            preference = _AFTER_EIGHT_BITS
        if one.fit.comfortable:
            needless = _needless(one, tensor_parallel) is not None
            return (0 if one.natural_kv else 1, lossy, preference, needless, -one.score)
        return (2, -one.fit.max_model_len, lossy, preference, -one.score)

    ordered = sorted(scored, key=key)
    return tuple(
        Candidate(one.plan, one.score, _why(one, ordered[0], tensor_parallel), not one.fit.comfortable)
        for one in ordered
    )


def _sixteen_bits_crawl(scored: Sequence[Scored]) -> bool:
    """True if 8 bits, with almost no loss, outrank 16 bits, which a small cache makes far slower."""
    best: dict[int, float] = {}
    for one in scored:
        if one.fit.comfortable and one.natural_kv:
            kind = tier(one.fit.quant, one.kind)
            best[kind] = max(best.get(kind, 0.0), one.score)
    eight_bits = max(best.get(kind, 0.0) for kind in (_AS_TRAINED + 1, _AS_TRAINED + 2))
    return eight_bits > _WORTH_EIGHT_BITS * best.get(_AS_TRAINED, eight_bits)


def tier(quant: Quant, kernel_kind: Kind) -> int:
    """The tier of a format, 0 best: native 8-bit floats, 16 bits as trained, unpacked 8 bits, native 4 bits, then
    unpacked 4 bits.
    """
    if quant.format in ("fp8", "fp8_block", "mxfp8"):
        return 0 if kernel_kind == "native" else 2
    if quant.format == "none":
        return _AS_TRAINED
    if quant.format in ("int8", "w8a16"):
        return 3
    if quant.format == "nvfp4":
        return 4 if kernel_kind == "native" else 6
    return 4 if quant.format == "mxfp4" else 5


_Reach = dict[tuple[str, bool, bool], tuple[int, int]]
"""(variant, large cache, stages allowed) → (GPUs, GPUs per replica).

The first is the most GPUs that comfortable tensor parallelism uses (over PCIe two ranks), the second the fewest of a
replica.
"""


def _tensor_parallel(scored: Sequence[Scored]) -> _Reach:
    reach: _Reach = {}
    for one in scored:
        quick = one.nvlink or one.plan.tp <= _TP_OVER_PCIE
        if not (quick and one.plan.dp == 1 and one.fit.comfortable):
            continue
        for roomy, staged in product({False, _roomy(one)}, {True, one.plan.pp > 1}):
            key = (one.plan.variant, roomy, staged)
            most, fewest = reach.get(key, (0, 1 << 30))
            reach[key] = max(most, _gpus(one.plan)), min(fewest, one.fit.layout.gpus)
    return reach


def _roomy(one: Scored) -> bool:
    return one.fit.kv_tokens >= _ROOMY_TOKENS


def _needless(one: Scored, tensor_parallel: _Reach) -> str | None:
    """The reason for plain tensor parallelism (over PCIe two ranks) instead of this layout; None without a reason.

    Three layouts are slower per token: stages, more than two ranks over PCIe (no custom all-reduce), and expert ranks,
    which wait for the slowest. Such a layout is preferred only in these cases:

    - plain tensor parallelism does not fit, or leaves GPUs idle;
    - plain tensor parallelism has a small cache, and this layout a large cache;
    - expert ranks, if the objective is throughput.

    Two ranks with stages outrank more ranks over PCIe, except for latency.
    """
    plan = one.plan
    slow_wires = plan.tp > _TP_OVER_PCIE and not one.nvlink
    if plan.pp == 1 and (plan.dp == 1 or one.busy) and not slow_wires:
        return None
    staged = slow_wires and plan.dp == 1 and not one.hurried
    most, fewest = tensor_parallel.get((plan.variant, _roomy(one), staged), (0, 1 << 30))
    if (most < _gpus(plan)) if one.filled else (fewest > one.fit.layout.gpus):
        return None
    if plan.pp > 1:
        return "tensor parallelism without stages suffices"
    return (
        "two ranks are enough over PCIe" if slow_wires else "tensor parallelism without expert ranks suffices"
    )


def _gpus(plan: Plan) -> int:
    return sum(map(len, plan.gpus))


def _why(one: Scored, best: Scored, tensor_parallel: _Reach) -> str:
    quant, speed = one.fit.quant, one.speed
    weights = f"{one.kind.replace('_', '-')} {quant.format} ({one.kernel})"
    if quant.format == "none":
        weights = "weights as trained"
    fact = (
        f"{weights}, {one.fit.max_model_len:,} tokens of context, about "
        f"{speed.tokens_per_s / one.fit.layout.gpus:,.0f} tokens/s a GPU at {speed.tpot_s * 1000:.0f} ms a token"
    )
    if one is best:
        return fact
    return f"{fact}; {_loss(one, best, tensor_parallel)}"


def _loss(one: Scored, best: Scored, tensor_parallel: _Reach) -> str:
    """The reason against `one`."""
    if best.fit.comfortable and not one.fit.comfortable:
        return "the context is below 32k tokens"
    if not best.fit.comfortable and one.fit.max_model_len < best.fit.max_model_len:
        return "the context is shorter"
    if best.natural_kv and not one.natural_kv:
        return "fp8 KV is not required"
    if tier(one.fit.quant, one.kind) > tier(best.fit.quant, best.kind):
        return f"the weights are less preferred than {best.plan.variant}"
    if (needless := _needless(one, tensor_parallel)) is not None:
        return needless
    return f"the score is {100 - 100 * one.score / max(best.score, 1e-9):.0f} % lower"

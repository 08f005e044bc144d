"""Roofline: estimates a layout's tokens a second from weights, KV cache, arithmetic and links. Pure.

The estimate ranks layouts; it predicts no benchmark. The load is that of published comparisons (2,000 tokens in, 500
out). The efficiencies reproduce the order of AIConfigurator's tables for Llama 8B and 70B on H100, H200 and A100.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pareta_agent.planning.memory.shape import active_parameters, parameters
from pareta_agent.planning.placement.layout import Layout, mlp_width
from pareta_agent.planning.request import PlanRequest
from pareta_agent.planning.support.devices import Device
from pareta_agent.planning.support.quant import Quant
from pareta_agent.planning.support.support import Kind
from pareta_registry.catalog import Architecture

_INPUT_TOKENS: Final = 2000
_OUTPUT_TOKENS: Final = 500
_MEMORY_EFFICIENCY: Final = 0.85
_COMPUTE_EFFICIENCY: Final = 0.70
_WEIGHT_ONLY_EFFICIENCY: Final = 0.75
_SLOW_BLOCKS: Final = 0.4
_EXPERT_HALF_WIDTH: Final = 512
_NVLINK_EFFICIENCY: Final = 0.40
_PCIE_BYTES: Final = 4e9
_NVLINK_LATENCY_S: Final = 9e-6
_PCIE_LATENCY_S: Final = 40e-6
_LAYER_OVERHEAD_S: Final = 12e-6
_STAGE_EFFICIENCY: Final = 0.75
_LOCKSTEP_EFFICIENCY: Final = 0.90
_RANK_EFFICIENCY: Final = 0.95
_PATIENCE: Final = 2.0
_CUSTOM_ALL_REDUCE: Final = frozenset({1, 2, 4, 6, 8, 16})


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware of a replica: the GPU's speed, and whether its ranks have NVLink."""

    device: Device
    nvlink: bool


@dataclass(frozen=True, slots=True)
class Load:
    """The memory of one replica: weight bytes per rank, KV bytes per token and rank, tokens in all."""

    weights_bytes: int
    kv_token_bytes: int
    kv_tokens: int
    max_num_seqs: int


@dataclass(frozen=True, slots=True)
class Speed:
    """A replica at its best batch: tokens a second in all, and seconds between two tokens of a caller (TPOT)."""

    tokens_per_s: float
    tpot_s: float


def speed(
    arch: Architecture,
    quant: Quant,
    kind: Kind,
    layout: Layout,
    machine: Machine,
    load: Load,
    request: PlanRequest,
    narrow: bool,
) -> Speed:
    """The speed at the largest batch within the target time per token and the KV cache.

    - A step reads the weights once. Each sequence adds a KV read, arithmetic, link transfers, and a share of the
      prefills that keep the batch full.
    - Except for latency, the target is at least twice the time of a single sequence: a slow layout still has a score.
    """
    flops = machine.device.bf16_flops * _COMPUTE_EFFICIENCY * _format_factor(quant, kind, machine.device)
    if narrow:
        flops *= _SLOW_BLOCKS
    if arch.num_experts:
        width = mlp_width(arch) / (1 if layout.expert_parallel else layout.tp)
        flops *= width / (width + _EXPERT_HALF_WIDTH)
    memory = machine.device.memory_bytes * _MEMORY_EFFICIENCY
    ranks = layout.tp * layout.dp
    operations = 2 * active_parameters(arch) / (ranks * layout.pp)
    read_s = load.weights_bytes / memory
    kv_s = (_INPUT_TOKENS + _OUTPUT_TOKENS / 2) * load.kv_token_bytes / layout.dp / memory
    wire_token_s = _wire_token_s(arch, layout, machine)
    prefill_s = _INPUT_TOKENS * (operations / flops + wire_token_s)
    sequence_s = kv_s + operations / flops + wire_token_s + prefill_s / _OUTPUT_TOKENS
    fixed_s = arch.layers / layout.pp * (_LAYER_OVERHEAD_S + _wire_fixed_s(layout, machine))
    held = load.kv_tokens * layout.dp // (_INPUT_TOKENS + _OUTPUT_TOKENS)
    cap = max(1, min(held, load.max_num_seqs * layout.dp))
    step = _Step(read_s, fixed_s, sequence_s)
    target_s = request.target_s
    if request.objective != "latency":
        target_s = max(target_s, _PATIENCE * _tpot_s(arch, layout, step, 1))
    best = _best_batch(arch, layout, step, cap, target_s)
    return Speed(best.tokens_per_s * _efficiency(layout), best.tpot_s)


@dataclass(frozen=True, slots=True)
class _Step:
    """The step of one stage: the read of all weights, the fixed time, and the time per sequence."""

    read_s: float
    fixed_s: float
    sequence_s: float


def _best_batch(arch: Architecture, layout: Layout, step: _Step, cap: int, target_s: float) -> Speed:
    """The largest batch within the target, by binary search: the time per token grows with the batch."""
    low, high = 1, cap
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _tpot_s(arch, layout, step, middle) <= target_s else (low, middle - 1)
    tpot_s = _tpot_s(arch, layout, step, low)
    return Speed(low / tpot_s, tpot_s)


def _tpot_s(arch: Architecture, layout: Layout, step: _Step, batch: int) -> float:
    """Seconds per token. Stages run concurrently, each on a part of the batch; a token passes through all stages."""
    part = max(1.0, batch / layout.pp)
    return layout.pp * (step.read_s * _touched(arch, part) + step.fixed_s + step.sequence_s * part)


def _efficiency(layout: Layout) -> float:
    """The factor for losses outside the step: pipeline bubbles, ranks that wait for the slowest, and scale.

    Each doubling of the GPUs that fail together costs a little more.
    """
    efficiency = math.pow(_RANK_EFFICIENCY, math.log2(layout.gpus))
    if layout.pp > 1:
        efficiency *= _STAGE_EFFICIENCY
    return efficiency * (_LOCKSTEP_EFFICIENCY if layout.dp > 1 else 1.0)


def _touched(arch: Architecture, batch: float) -> float:
    """The share of the weights that a step of this batch reads: for a mixture of experts, the routed experts."""
    if not arch.num_experts:
        return 1.0
    parts = parameters(arch)
    drawn = 1 - math.pow(1 - (arch.experts_per_tok or 1) / arch.num_experts, max(batch, 1))
    return (parts.body - parts.experts * (1 - drawn)) / parts.body


def _format_factor(quant: Quant, kind: Kind, device: Device) -> float:
    if kind == "weight_only":
        return _WEIGHT_ONLY_EFFICIENCY
    if quant.format in ("fp8", "fp8_block", "int8", "mxfp8"):
        return max(device.fp8, 2.0 if quant.format == "int8" else 1.0) * 0.8
    if quant.format in ("nvfp4", "mxfp4"):
        return device.fp4 * 0.6
    return 1.0


def _wire_token_s(arch: Architecture, layout: Layout, machine: Machine) -> float:
    """Seconds per token: two all-reduces of a hidden vector per layer; with dp, dispatch and combine."""
    vector = arch.hidden * 2
    linked = machine.device.link_bytes * _NVLINK_EFFICIENCY if machine.nvlink else 0.0
    rate = max(linked, _PCIE_BYTES)  # a driver may report links that the data sheet does not have
    seconds = 0.0
    if layout.tp > 1:
        seconds += 2 * arch.layers / layout.pp * vector * 2 * (layout.tp - 1) / layout.tp / rate
    if layout.dp > 1:
        seconds += 2 * arch.layers * vector * min(arch.experts_per_tok or 1, layout.dp) / layout.dp / rate
    return seconds


def _wire_fixed_s(layout: Layout, machine: Machine) -> float:
    if layout.tp * layout.dp == 1:
        return 0.0
    quick = machine.nvlink and layout.tp in _CUSTOM_ALL_REDUCE
    return 2 * (_NVLINK_LATENCY_S if quick else _PCIE_LATENCY_S) * (1 + layout.tp / 8)

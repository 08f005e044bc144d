"""Bytes of a rank, against what vLLM published or logs."""

from __future__ import annotations

import pytest
from planner_values import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B, SMOLLM2

from pareta_agent.hardware.inventory import GIB
from pareta_agent.planning.memory.footprint import (
    Caps,
    activation_bytes,
    adapters_bytes,
    graphs_bytes,
    overhead_bytes,
    weights_bytes,
)
from pareta_agent.planning.placement.layout import Layout
from pareta_agent.planning.request import AdapterSlots
from pareta_agent.planning.support.quant import parse_quant
from pareta_registry.catalog import Architecture

CAPS = Caps(8192, 1024)


@pytest.mark.parametrize(
    ("arch", "quant", "gib", "layout", "expected_gib"),
    [
        (LLAMA_8B, "none", 14.96, Layout(1), 14.99),
        (LLAMA_70B, "none", 131.4, Layout(4), 32.89),
        (LLAMA_70B, "none", 131.4, Layout(8), 16.46),
        (SMOLLM2, "none", 0.2506, Layout(1), 0.2506),
    ],
)
def test_weights_within_one_percent_of_the_engines_word(
    arch: Architecture, quant: str, gib: float, layout: Layout, expected_gib: float
) -> None:
    """`Model loading took …` of published logs."""
    found = weights_bytes(arch, parse_quant(quant), layout, int(gib * GIB), "bfloat16")
    assert found / GIB == pytest.approx(expected_gib, rel=0.01)


def test_float32_doubles_unquantized_weights() -> None:
    """The checkpoint holds 16 bits a weight, the engine then 32."""
    plain = parse_quant("none")
    half, full = (
        weights_bytes(SMOLLM2, plain, Layout(), 269_030_016, dtype) for dtype in ("bfloat16", "float32")
    )
    assert full == pytest.approx(2 * half, rel=0.001)


def test_mla_repeats_its_down_projections_on_every_rank() -> None:
    """DeepSeek-V3 in fp8 at tp 8: an eighth of the bytes, and over 2 GiB more that does not split."""
    found = weights_bytes(DEEPSEEK_V3, parse_quant("fp8-block128"), Layout(8), int(641.3 * GIB), "bfloat16")
    assert 641.3 / 8 + 1 < found / GIB < 641.3 / 8 + 3


def test_stages_split_layers_and_keep_their_tables() -> None:
    """The last stage has the head: more than a plain half."""
    whole = int(14.96 * GIB)
    half = weights_bytes(LLAMA_8B, parse_quant("none"), Layout(1, 2), whole, "bfloat16")
    assert whole // 2 <= half <= whole // 2 + 128256 * 4096 * 2


def test_expert_ranks_hold_their_experts_and_all_the_rest() -> None:
    """With dp 8 the attention is on every rank, so a rank holds more than an eighth."""
    found = weights_bytes(
        DEEPSEEK_V3, parse_quant("fp8-block128"), Layout(1, 1, 8, True), int(641.3 * GIB), "bfloat16"
    )
    assert found > int(641.3 * GIB) // 8 * 1.1


def test_the_sampler_outweighs_a_small_models_step() -> None:
    """1,024 sequences × 128,256 logits × 14 bytes is more than 8,192 tokens of a small model."""
    assert activation_bytes(LLAMA_8B, Layout(8), CAPS, 8192) == 14 * 1024 * 128256


def test_activation_shrinks_with_the_step() -> None:
    """Fewer tokens, fewer bytes; fewer sequences, fewer logits."""
    large, small = (
        activation_bytes(LLAMA_70B, Layout(1), Caps(tokens, 64), 8192) for tokens in (16384, 2048)
    )
    assert large == 8 * small


def test_mla_adds_its_prefill_workspace() -> None:
    """64 Ki tokens of 128 heads, expanded: over 4 GB on one rank, an eighth of it at tp 8."""
    one, eight = (activation_bytes(DEEPSEEK_V3, Layout(tp), Caps(2048, 64), 163840) for tp in (1, 8))
    assert one - eight > 3 * GIB


def test_flashinfer_brings_its_workspace() -> None:
    """394 MiB more."""
    assert overhead_bytes(flashinfer=True) - overhead_bytes(flashinfer=False) == 394 << 20


def test_graphs_cost_less_for_fewer_sequences() -> None:
    """Captured sizes end at twice the sequences, 512 at most."""
    assert graphs_bytes(LLAMA_8B, Layout(), Caps(8192, 8)) < graphs_bytes(LLAMA_8B, Layout(), CAPS)


def test_adapter_slots_are_what_the_engine_takes_for_them() -> None:
    """vLLM 0.32 stacked 25,903,104 bytes for two adapters of rank 16 beside SmolLM2; none without adapters."""
    assert adapters_bytes(SMOLLM2, Layout(), AdapterSlots(16, 2, 64), "bfloat16") == 25_903_104
    assert adapters_bytes(SMOLLM2, Layout(), None, "bfloat16") == 0


def test_ranks_share_the_columns_of_an_adapter() -> None:
    """Rows are whole on each of four ranks, so that it holds more than a quarter."""
    one, four = (adapters_bytes(LLAMA_8B, Layout(tp), AdapterSlots(16, 1, 16), "bfloat16") for tp in (1, 4))
    assert one / 4 < four < one

"""Which spreads vLLM refuses, and how it deals layers."""

from __future__ import annotations

import pytest
from planner_values import DEEPSEEK_V3, LLAMA_8B

from pareta_agent.planning.placement.layout import Layout, illegal, narrow_blocks, stage_layers
from pareta_agent.planning.support.quant import parse_quant
from pareta_registry.catalog import Architecture

PLAIN = parse_quant("none")
QWEN_7B = LLAMA_8B.model_copy(
    update={"layers": 28, "heads": 28, "kv_heads": 4, "hidden": 3584, "intermediate": 18944, "vocab": 152064}
)
QWEN_30B_A3B = LLAMA_8B.model_copy(
    update={"kv_heads": 4, "hidden": 2048, "num_experts": 128, "experts_per_tok": 8, "moe_intermediate": 768}
)


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16, 32])
def test_powers_of_two_suit_an_ordinary_model(tp: int) -> None:
    """Also more ranks than KV heads, as long as the heads divide into them."""
    assert illegal(LLAMA_8B, PLAIN, Layout(tp)) is None


@pytest.mark.parametrize(
    ("arch", "quant", "layout", "said"),
    [
        (LLAMA_8B, "none", Layout(3), "32 attention heads do not divide by tp 3"),
        (QWEN_7B, "none", Layout(7), "4 KV heads neither divide by tp 7 nor into it"),
        (QWEN_7B, "none", Layout(8), "28 attention heads do not divide by tp 8"),
        (LLAMA_8B.model_copy(update={"vision_heads": 6}), "none", Layout(4), "6 vision heads"),
        (LLAMA_8B.model_copy(update={"intermediate": 14337}), "none", Layout(2), "an MLP 14337 wide"),
        (LLAMA_8B, "none", Layout(1, 33), "32 layers cannot make 33 stages"),
        (LLAMA_8B, "none", Layout(1, 1, 2, True), "dp inside one engine"),
        (DEEPSEEK_V3, "fp8-block128", Layout(1, 1, 3, True), "256 experts do not divide by 3 ranks"),
        (LLAMA_8B, "awq-int4-g100", Layout(1), "groups of 100 have no kernel"),
        (
            LLAMA_8B.model_copy(update={"intermediate": 29568}),
            "awq-int4-g128",
            Layout(2),
            "MLP: 29568/2 rows a rank",
        ),
    ],
)
def test_illegal_layouts_are_refused_with_their_numbers(
    arch: Architecture, quant: str, layout: Layout, said: str
) -> None:
    """vLLM would fail at start, some of them with a bare assertion."""
    reason = illegal(arch, parse_quant(quant), layout)
    assert reason is not None
    assert said in reason


def test_mla_has_no_kv_heads_to_divide() -> None:
    """Its latent is whole on every rank."""
    assert illegal(DEEPSEEK_V3, parse_quant("fp8-block128"), Layout(8)) is None


def test_split_blocks_are_slow_not_illegal() -> None:
    """768/4 = 192 is no multiple of 128, 768/2 = 384 is."""
    quant = parse_quant("fp8-block128")
    assert illegal(QWEN_30B_A3B, quant, Layout(4)) is None
    assert [narrow_blocks(QWEN_30B_A3B, quant, Layout(tp)) for tp in (1, 2, 4)] == [False, False, True]


def test_layers_are_dealt_as_vllm_deals_them() -> None:
    """The remainder goes to the stages before the last one."""
    assert stage_layers(80, 3) == (27, 27, 26)
    assert stage_layers(61, 4) == (15, 15, 16, 15)
    assert stage_layers(32, 1) == (32,)

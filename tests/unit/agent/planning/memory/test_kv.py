"""KV cache arithmetic against numbers worked out by hand."""

from __future__ import annotations

import pytest
from planner_values import DEEPSEEK_V3, GPT_OSS_20B, LLAMA_8B, LLAMA_70B, SMOLLM2

from pareta_agent.planning.memory.kv import kv_shape, linear_state_bytes
from pareta_agent.planning.placement.layout import Layout
from pareta_registry.catalog import Architecture

IN_FLIGHT = 4096
QWEN35_27B = LLAMA_8B.model_copy(
    update={
        "layers": 64, "heads": 24, "kv_heads": 4, "head_dim": 256, "hidden": 5120, "intermediate": 17408,
        "full_layers": 16, "linear_layers": 48, "linear_state_bytes": 48 * 128 * 128 * 4,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "layout", "kv_dtype", "token_bytes"),
    [
        (LLAMA_8B, Layout(1), "auto", 32 * 2 * 8 * 128 * 2),
        (LLAMA_8B, Layout(2), "auto", 32 * 2 * 4 * 128 * 2),
        (LLAMA_8B, Layout(16), "auto", 32 * 2 * 1 * 128 * 2),
        (LLAMA_8B, Layout(1), "fp8", 32 * 2 * 8 * 128),
        (LLAMA_70B, Layout(2, 2), "auto", 40 * 2 * 4 * 128 * 2),
        (DEEPSEEK_V3, Layout(8), "auto", 61 * 576 * 2),
        (DEEPSEEK_V3, Layout(8), "fp8", 61 * 656),
        (SMOLLM2, Layout(1), "auto", 30 * 2 * 3 * 64 * 2),
    ],
)
def test_bytes_a_token(arch: Architecture, layout: Layout, kv_dtype: str, token_bytes: int) -> None:
    """GQA keeps its share of heads, at least one; MLA its whole latent; stages only their layers."""
    assert kv_shape(arch, layout, kv_dtype, "bfloat16", IN_FLIGHT).token_bytes == token_bytes


def test_capacity_is_what_vllm_would_log() -> None:
    """1 GiB of SmolLM2 at blocks of 128: 364 blocks, of which a request of 4,096 takes 32."""
    shape = kv_shape(SMOLLM2, Layout(), "auto", "bfloat16", 2048, block_tokens=128)
    assert shape.block_bytes == 128 * 23040
    assert shape.tokens(1 << 30, 4096) == (1 << 30) // (128 * 23040) * 4096 // 32


def test_the_longest_context_leaves_the_null_block() -> None:
    """The pool keeps one block back, so ten blocks serve nine blocks' tokens."""
    shape = kv_shape(LLAMA_8B, Layout(), "auto", "bfloat16", IN_FLIGHT)
    assert shape.longest(10 * shape.block_bytes, 131072) == 9 * 16
    assert shape.longest(10 * shape.block_bytes, 100) == 100
    assert shape.longest(shape.block_bytes, 131072) == 0
    assert shape.longest(-5, 131072) == 0


def test_a_sliding_window_stops_growing() -> None:
    """gpt-oss: 12 full layers grow, 12 windowed ones end at window - 1 + tokens in flight."""
    shape = kv_shape(GPT_OSS_20B, Layout(), "auto", "bfloat16", IN_FLIGHT)
    assert (shape.full_groups, shape.sliding_groups) == (1, 1)
    window_blocks = -(-(127 + IN_FLIGHT) // 16) + 1
    assert shape.request_blocks(131072) == 131072 // 16 + window_blocks
    assert shape.token_bytes == 12 * 2 * 8 * 64 * 2


def test_a_hybrids_state_is_one_block_a_group() -> None:
    """Qwen3.5: 16 full layers beside 48 with a constant state of 3 MiB; blocks grow until a state fits one."""
    shape = kv_shape(QWEN35_27B, Layout(), "auto", "bfloat16", IN_FLIGHT)
    assert (shape.full_groups, shape.linear_groups) == (1, 3)
    layer_token_bytes = 2 * 4 * 256 * 2
    assert shape.block_tokens * layer_token_bytes >= linear_state_bytes(QWEN35_27B, 1)
    assert shape.request_blocks(shape.block_tokens * 10) == 10 + 3
    assert shape.token_bytes == 16 * layer_token_bytes

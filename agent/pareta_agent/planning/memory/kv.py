"""KV cache: calculates bytes per block, blocks per request, tokens and longest context of one rank. Integers.

The formulas are vLLM 0.32's (v1/core/kv_cache_utils.py, v1/kv_cache_interface.py): layers of one kind form
groups of equal size that draw blocks from one pool; the pool reserves one null block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pareta_agent.planning.placement.layout import Layout, stage_layers
from pareta_registry.catalog import Architecture

DTYPE_BYTES: Final = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
_FP8_MLA_BYTES: Final = 656  # 512 fp8 latent, 4 float32 scales, 64 rope values in bfloat16
_STATE_KEY_DIM: Final = 128
_FULL_GROUP_RATIO: Final = 1.5


@dataclass(frozen=True, slots=True)
class KvShape:
    """The cache of one rank. A request of n tokens takes blocks in each group:

    - in a full group a block per `block_tokens`,
    - in a sliding group at most the blocks of the window,
    - in a linear group one block, the constant state.
    """

    block_tokens: int
    block_bytes: int
    full_groups: int
    sliding_groups: int
    linear_groups: int
    window_tokens: int

    @property
    def token_bytes(self) -> int:
        """Bytes of one more token in a long context."""
        return self.full_groups * self.block_bytes // self.block_tokens

    def request_blocks(self, tokens: int) -> int:
        """Blocks of a request at its full length."""
        held = self.full_groups * -(-tokens // self.block_tokens) + self.linear_groups
        if self.sliding_groups:
            held += self.sliding_groups * (-(-min(self.window_tokens, tokens) // self.block_tokens) + 1)
        return held

    def tokens(self, kv_bytes: int, max_model_len: int) -> int:
        """The capacity that vLLM logs as `KV cache size`: concurrency at full length times full length."""
        if kv_bytes <= 0 or not self.block_bytes:
            return 0
        return kv_bytes // self.block_bytes * max_model_len // self.request_blocks(max_model_len)

    def longest(self, kv_bytes: int, limit: int) -> int:
        """The longest context of one request, up to `limit`; 0 if no token fits."""
        usable = kv_bytes // self.block_bytes - 1
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.request_blocks(middle) <= usable else (low, middle - 1)
        return low


def kv_shape(
    arch: Architecture,
    layout: Layout,
    kv_dtype: str,
    dtype: str,
    in_flight_tokens: int,
    block_tokens: int = 16,
) -> KvShape:
    """The cache of the fullest rank. `kv_dtype` is `auto` (then `dtype`) or `fp8`.

    `in_flight_tokens` are scheduled and not finished. A sliding window stores these in addition to the window.
    """
    full, sliding, linear = kv_layers(arch)
    token = token_layer_bytes(arch, layout.tp, dtype if kv_dtype == "auto" else "fp8")
    if linear:
        state = linear_state_bytes(arch, layout.tp)
        block_tokens = max(block_tokens, -(-state // token // 16) * 16 + 16)
    kinds = [count for count in (full, sliding, linear) if count]
    smallest, largest = min(kinds), max(kinds)
    size = largest if largest < smallest * _FULL_GROUP_RATIO else smallest
    groups = [-(-count // size) for count in (full, sliding, linear)]
    on_stage = -(-size * max(stage_layers(arch.layers, layout.pp)) // arch.layers)
    window = (arch.sliding_window or 1) - 1 + in_flight_tokens
    return KvShape(block_tokens, on_stage * token * block_tokens, groups[0], groups[1], groups[2], window)


def kv_layers(arch: Architecture) -> tuple[int, int, int]:
    """The number of layers that store the whole context, a window, and a constant state."""
    sliding = arch.sliding_layers if arch.sliding_window else 0
    full = arch.full_layers if arch.full_layers is not None else arch.layers - sliding - arch.linear_layers
    return full, sliding, arch.linear_layers


def token_layer_bytes(arch: Architecture, tp: int, dtype: str) -> int:
    """Bytes per token and layer on one rank.

    GQA stores K and V of the rank's share of heads, at least one head. MLA stores a latent vector, whole on every rank.
    """
    if arch.kv_lora_rank is not None:
        width = arch.kv_lora_rank + (arch.qk_rope_head_dim or 0)
        return _FP8_MLA_BYTES if dtype == "fp8" else width * DTYPE_BYTES[dtype]
    return 2 * max(1, arch.kv_heads // tp) * arch.head_dim * DTYPE_BYTES[dtype]


def linear_state_bytes(arch: Architecture, tp: int) -> int:
    """Bytes of one request's recurrent state per linear layer on one rank, float32 (`mamba_ssm_dtype`).

    An architecture without that number has a value width of 1.5 hidden by 128 key dimensions. This covers Gated
    DeltaNet (Qwen3.5: 6144 values at hidden 5120) and Mamba-2 (128 states).
    """
    whole = arch.linear_state_bytes or 3 * arch.hidden // 2 * _STATE_KEY_DIM * 4
    return -(-whole // tp)

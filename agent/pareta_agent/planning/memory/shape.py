"""Parameter counts: counts a model's parameters by part, from the architecture alone.

The footprint uses the counts to distribute a checkpoint's total bytes over ranks. Norms and biases are left out (under
0.01 % of any model that is planned here).
"""

from __future__ import annotations

from dataclasses import dataclass

from pareta_registry.catalog import Architecture


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameter counts.

    - `embedding` and `head` are whole tables; `head` is 0 if tied to the embedding.
    - `replicated` is the part of all layers that tensor parallelism copies to every rank: MLA's down projections and
      the routers of a mixture of experts.
    - `kv_projection` is copied if there are more ranks than KV heads.
    """

    embedding: int
    head: int
    attention: int
    dense_mlp: int
    experts: int
    replicated: int
    kv_projection: int

    @property
    def body(self) -> int:
        return self.attention + self.dense_mlp + self.experts

    @property
    def active_body(self) -> int:
        return self.attention + self.dense_mlp


def parameters(arch: Architecture) -> Parameters:
    """Counts per part. For MLA the q rank is three times the KV rank (DeepSeek-V3, Kimi-K2: 1536 and 512)."""
    embedding = arch.vocab * arch.hidden
    linear = arch.linear_layers
    if arch.kv_lora_rank is not None:
        down = arch.hidden * (3 * arch.kv_lora_rank + arch.kv_lora_rank + (arch.qk_rope_head_dim or 0))
        up = 3 * arch.kv_lora_rank * arch.heads * (arch.head_dim + (arch.qk_rope_head_dim or 0))
        per_layer = down + up + arch.heads * arch.head_dim * (2 * arch.kv_lora_rank + arch.hidden)
        attention, replicated, kv_projection = per_layer * arch.layers, down * arch.layers, 0
    else:
        kv_projection = 2 * arch.hidden * arch.head_dim * arch.kv_heads * (arch.layers - linear)
        attention = 2 * arch.hidden * arch.head_dim * arch.heads * arch.layers + kv_projection
        replicated = 0
    experts = dense = 0
    if arch.num_experts and arch.moe_intermediate:
        experts = 3 * arch.hidden * arch.moe_intermediate * arch.num_experts * arch.layers
        replicated += arch.hidden * arch.num_experts * arch.layers
    else:
        dense = 3 * arch.hidden * arch.intermediate * arch.layers
    head = 0 if arch.tied_embeddings else embedding
    return Parameters(embedding, head, attention, dense, experts, replicated, kv_projection)


def active_parameters(arch: Architecture) -> int:
    """Parameters that one token uses, without the embedding and with the head."""
    parts = parameters(arch)
    total = int(arch.params_b * 1e9) - parts.embedding
    if not parts.experts or not arch.num_experts:
        return max(total, 1)
    idle = parts.experts * (1 - (arch.experts_per_tok or 1) / arch.num_experts)
    return max(int(total - idle), parts.attention)

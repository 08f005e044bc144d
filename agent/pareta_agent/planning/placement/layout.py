"""Layout: spreads one replica over GPUs, and rejects layouts that vLLM refuses. Pure.

Rules are vLLM 0.32's own: heads (config/model.py, verify_with_parallel_config), KV heads (linear.py,
QKVParallelLinear: a bare assertion), the padded vocabulary (vocab_parallel_embedding.py), experts and groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pareta_agent.planning.support.quant import Quant
from pareta_registry.catalog import Architecture

_VOCAB_PADDING: Final = 64
_MARLIN_GROUPS: Final = frozenset({32, 64, 128})
FP8_BLOCK: Final = 128


@dataclass(frozen=True, slots=True, order=True)
class Layout:
    """`dp` above 1: one engine whose ranks share experts (`expert_parallel`). Replicas are separate engines."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    expert_parallel: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        parts = [f"tp{self.tp}"]
        if self.pp > 1:
            parts.append(f"pp{self.pp}")
        if self.dp > 1:
            parts.append(f"dp{self.dp}")
        return "×".join(parts) + (" ep" if self.expert_parallel else "")


def stage_layers(layers: int, pp: int) -> tuple[int, ...]:
    """Layers of each pipeline stage, as vLLM distributes them (distributed/utils.py, get_pp_indices)."""
    stages = [layers // pp] * pp
    for i in range(2, layers % pp + 2):
        stages[-i] += 1
    return tuple(stages)


def illegal(arch: Architecture, quant: Quant, layout: Layout) -> str | None:
    """The reason for which vLLM refuses this layout, or None."""
    tp = layout.tp
    if arch.heads % tp:
        return f"{arch.heads} attention heads do not divide by tp {tp}"
    if arch.kv_lora_rank is None and arch.kv_heads % tp and tp % arch.kv_heads:
        return f"{arch.kv_heads} KV heads neither divide by tp {tp} nor into it"
    if _padded_vocab(arch.vocab) % tp:
        return f"the vocabulary of {_padded_vocab(arch.vocab)} (padded) does not divide by tp {tp}"
    if arch.vision_heads is not None and arch.vision_heads % tp:
        return f"{arch.vision_heads} vision heads do not divide by tp {tp}"
    if layout.pp > arch.layers:
        return f"{arch.layers} layers cannot make {layout.pp} stages"
    return _illegal_mlp(arch, quant, layout)


def _illegal_mlp(arch: Architecture, quant: Quant, layout: Layout) -> str | None:
    experts = arch.num_experts
    if layout.dp > 1 and not experts:
        return "dp inside one engine is for mixtures of experts"
    if layout.expert_parallel and experts and experts % (layout.tp * layout.dp):
        return f"{experts} experts do not divide by {layout.tp * layout.dp} ranks"
    width = mlp_width(arch)
    if not layout.expert_parallel and width % layout.tp:
        return f"an MLP {width} wide does not divide by tp {layout.tp}"
    if quant.format != "w4a16" or quant.group is None or layout.expert_parallel:
        return None
    if quant.group not in _MARLIN_GROUPS:
        return f"groups of {quant.group} have no kernel"
    for name, rows in (("attention output", arch.heads * arch.head_dim), ("MLP", width)):
        if rows // layout.tp % quant.group:
            return f"{name}: {rows}/{layout.tp} rows a rank do not divide into groups of {quant.group}"
    return None


def narrow_blocks(arch: Architecture, quant: Quant, layout: Layout) -> bool:
    """True if a rank's MLP shard splits a 128-wide fp8 block: the engine runs on a slow path (oracle/fp8.py)."""
    if quant.format != "fp8_block" or layout.expert_parallel or layout.tp == 1:
        return False
    return mlp_width(arch) // layout.tp % FP8_BLOCK != 0


def mlp_width(arch: Architecture) -> int:
    """The MLP width that tensor parallelism cuts; in a mixture of experts, the width of one expert."""
    return (arch.moe_intermediate or arch.intermediate) if arch.num_experts else arch.intermediate


def _padded_vocab(vocab: int) -> int:
    return -(-vocab // _VOCAB_PADDING) * _VOCAB_PADDING

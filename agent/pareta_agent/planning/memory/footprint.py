"""Footprint: calculates the bytes of a replica's fullest GPU without its KV cache. Integers, each term sourced.

Real starts correct these estimates (`measured.py`): vLLM profiles the same terms and logs the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pareta_agent.planning.memory.kv import DTYPE_BYTES
from pareta_agent.planning.memory.shape import parameters
from pareta_agent.planning.placement.layout import Layout, mlp_width, stage_layers
from pareta_agent.planning.request import AdapterSlots
from pareta_agent.planning.support.quant import Quant
from pareta_registry.catalog import Architecture

_MIB: Final = 1 << 20
_SAMPLER_BYTES: Final = 14
_MLA_WORKSPACE_TOKENS: Final = 64 * 1024
_VISION_PROFILE_BYTES: Final = 512 * _MIB
_FLASHINFER_WORKSPACE_BYTES: Final = 394 * _MIB
_LIBRARIES_BYTES: Final = 256 * _MIB
_GRAPH_FLOOR_BYTES: Final = 128 * _MIB
_SLACK_PER_MILLE: Final = 5


@dataclass(frozen=True, slots=True)
class Caps:
    """The maximum of one step: `tokens` is max_num_batched_tokens, `seqs` is max_num_seqs."""

    tokens: int
    seqs: int

    def within(self, limit: Caps | None) -> Caps:
        """The caps, cut to a limit."""
        return self if limit is None else Caps(min(self.tokens, limit.tokens), min(self.seqs, limit.seqs))


def weights_bytes(arch: Architecture, quant: Quant, layout: Layout, checkpoint_bytes: int, dtype: str) -> int:
    """Weight bytes of the fullest rank, from the checkpoint's real bytes.

    - Vocabulary tables stay at `dtype`, split over tp, on the first and the last stage.
    - The body splits over tp and stages, except for the parts that every rank repeats (shape.py). With dp only experts
      split.
    - MLA stores unpacked copies of kv_b_proj for absorbed decoding (mla_attention.py, W_UK_T and W_UV).
    - Allocation is 5 per mille above the stored bytes (2 MiB segments; Llama 8B and 70B log 0.1 to 0.3 %).
    """
    parts = parameters(arch)
    width = DTYPE_BYTES[dtype]
    stored = checkpoint_bytes * max(1, width * 8 // 16) if quant.format == "none" else checkpoint_bytes
    tables = min((parts.embedding + parts.head) * width, stored // 2)
    body = stored - tables
    embedding = tables * parts.embedding // (parts.embedding + parts.head)
    head = embedding if arch.tied_embeddings else tables - embedding
    kept = parts.replicated * (width if quant.bits < 8 else max(1, quant.bits // 8))
    experts = body * parts.experts // max(parts.body, 1)
    if layout.dp > 1:
        ranked = body - experts + experts // (layout.dp * layout.tp)
    else:
        kept += _repeated_kv_bytes(arch, layout.tp, parts.kv_projection * max(1, quant.bits // 8))
        kept = min(kept, body)
        ranked = (body - kept) // layout.tp + kept
    ranked += _absorbed_bytes(arch, layout.tp, width)
    stages = stage_layers(arch.layers, layout.pp)
    held = [ranked * layers // arch.layers for layers in stages]
    held[0] += embedding // layout.tp
    if layout.pp > 1 or not arch.tied_embeddings:
        held[-1] += head // layout.tp
    return max(held) * (1000 + _SLACK_PER_MILLE) // 1000


def adapters_bytes(arch: Architecture, layout: Layout, slots: AdapterSlots | None, dtype: str) -> int:
    """Bytes for LoRA adapters on the fullest rank, allocated at the start even without an adapter.

    vLLM stacks a pair of factors per linear layer, embedding and head, for every slot at the full rank. Rows of A are
    whole on every rank; columns of B split over tp like the layer (lora/layers, create_lora_weights). Each expert has a
    separate pair. vLLM logs these bytes with the weights.
    """
    if slots is None:
        return 0
    hidden, tp, q, kv = arch.hidden, layout.tp, arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    inner, mlps = arch.intermediate, 1
    if arch.num_experts and arch.moe_intermediate:
        inner, mlps = arch.moe_intermediate, arch.num_experts
    attention = 3 * hidden + (q + 2 * kv) // tp + q // tp + hidden
    mlp = mlps * (2 * hidden + 2 * inner // tp + inner // tp + hidden)
    tables = 2 * (arch.vocab + hidden)
    rows = max(stage_layers(arch.layers, layout.pp)) * (attention + mlp) + tables
    return slots.at_once * slots.rank * rows * DTYPE_BYTES[dtype]


def activation_bytes(arch: Architecture, layout: Layout, caps: Caps, max_model_len: int) -> int:
    """Peak transient bytes of the profiling run: the maximum of the widest step and the sampler.

    - Step: residual and normed copy; gate, up and product of the MLP, or fused_moe's two workspaces for routed tokens.
      MLA adds a chunked-prefill workspace (mla_attention.py).
    - Sampler: 14 bytes per logit (float32 logits, a sorted copy, indices) for each of `max_num_seqs` dummy requests.
    """
    share = layout.tp * (layout.dp if layout.expert_parallel and layout.dp > 1 else 1)
    if arch.num_experts:
        routed = arch.experts_per_tok or 1
        width = 2 * arch.hidden + routed * (arch.hidden + 2 * mlp_width(arch) // share)
    else:
        width = 2 * arch.hidden + 3 * arch.intermediate // layout.tp
    step = caps.tokens * width * 2
    if arch.kv_lora_rank is not None:
        tokens = min(max(8 * max_model_len, 64 * caps.seqs), _MLA_WORKSPACE_TOKENS)
        step += tokens * (arch.heads // layout.tp * 2 * arch.head_dim + arch.kv_lora_rank) * 2
    if arch.vision_heads is not None:
        step += _VISION_PROFILE_BYTES
    return max(step, _SAMPLER_BYTES * caps.seqs * arch.vocab)


def graphs_bytes(arch: Architecture, layout: Layout, caps: Caps) -> int:
    """Bytes of CUDA graphs up to 512 sequences, which vLLM subtracts from the KV cache.

    Inputs and outputs of all captured sizes share a pool of the largest size. Launch parameters add 2 MiB a layer.
    """
    largest = min(512, 2 * caps.seqs)
    pool = largest * (4 * arch.hidden + arch.vocab // layout.tp) * 2
    return _GRAPH_FLOOR_BYTES + pool + 2 * _MIB * max(stage_layers(arch.layers, layout.pp))


def overhead_bytes(flashinfer: bool) -> int:
    """Bytes that libraries allocate after vLLM first reads the free memory.

    - cuBLAS workspaces and lazily loaded kernels.
    - FlashInfer's workspace (394 MiB, VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE), if FlashInfer is the backend.

    CUDA's context and NCCL's buffers (350-400 MiB) exist before that reading and belong to 1 - utilization.
    """
    return _LIBRARIES_BYTES + (_FLASHINFER_WORKSPACE_BYTES if flashinfer else 0)


def _absorbed_bytes(arch: Architecture, tp: int, width: int) -> int:
    if arch.kv_lora_rank is None:
        return 0
    return arch.layers * arch.heads // tp * arch.kv_lora_rank * 2 * arch.head_dim * width


def _repeated_kv_bytes(arch: Architecture, tp: int, kv_projection_bytes: int) -> int:
    """Additional KV projection bytes if there are more ranks than KV heads: each rank has a whole head."""
    if tp <= arch.kv_heads or arch.kv_lora_rank is not None:
        return 0
    return kv_projection_bytes * (tp - arch.kv_heads) // (arch.kv_heads * tp)

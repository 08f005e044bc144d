"""Models and nodes for the planner's tests, in as few words as a test needs."""

from __future__ import annotations

from typing import Any

from pareta_agent.hardware.inventory import GIB, Gpu, Inventory
from pareta_registry.catalog import Architecture, Variant

LLAMA_8B = Architecture(
    architecture="LlamaForCausalLM",
    params_b=8.03,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    hidden=4096,
    intermediate=14336,
    vocab=128256,
    max_position_embeddings=131072,
)
LLAMA_70B = LLAMA_8B.model_copy(
    update={"params_b": 70.6, "layers": 80, "heads": 64, "hidden": 8192, "intermediate": 28672}
)
DEEPSEEK_V3 = Architecture(
    architecture="DeepseekV3ForCausalLM",
    params_b=671.0,
    layers=61,
    heads=128,
    kv_heads=128,
    head_dim=128,
    hidden=7168,
    intermediate=18432,
    vocab=129280,
    max_position_embeddings=163840,
    num_experts=256,
    experts_per_tok=8,
    moe_intermediate=2048,
    kv_lora_rank=512,
    qk_rope_head_dim=64,
)
GPT_OSS_20B = Architecture(
    architecture="GptOssForCausalLM",
    params_b=20.9,
    layers=24,
    heads=64,
    kv_heads=8,
    head_dim=64,
    hidden=2880,
    intermediate=2880,
    vocab=201088,
    max_position_embeddings=131072,
    num_experts=32,
    experts_per_tok=4,
    moe_intermediate=2880,
    sliding_window=128,
    sliding_layers=12,
    full_layers=12,
    attention_sinks=True,
)
SMOLLM2 = Architecture(
    architecture="LlamaForCausalLM",
    params_b=0.134515,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    hidden=576,
    intermediate=1536,
    vocab=49152,
    max_position_embeddings=8192,
    tied_embeddings=True,
)
SMOLLM2_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "hidden_size": SMOLLM2.hidden,
    "intermediate_size": SMOLLM2.intermediate,
    "num_hidden_layers": SMOLLM2.layers,
    "num_attention_heads": SMOLLM2.heads,
    "num_key_value_heads": SMOLLM2.kv_heads,
    "head_dim": SMOLLM2.head_dim,
    "vocab_size": SMOLLM2.vocab,
    "max_position_embeddings": SMOLLM2.max_position_embeddings,
}


def variant(name: str = "bf16", quant: str = "none", gib: float = 14.96, **more: Any) -> Variant:
    return Variant(
        name=name,
        quant=quant,
        artifact="sha256:" + name.encode().hex().ljust(64, "0")[:64],
        source="file:///nowhere",
        weights_bytes=int(gib * GIB),
        **more,
    )


def gpus(count: int = 1, gib: float = 79.1, *, free_gib: float | None = None, **more: Any) -> tuple[Gpu, ...]:
    """`count` H100s with NVLink between all of them, unless `more` says otherwise."""
    uuids = [f"GPU-{index}" for index in range(count)]
    facts = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": (9, 0)} | more
    linked = facts.pop("linked", True)
    return tuple(
        Gpu(
            uuid=uuid,
            memory_total_bytes=int(gib * GIB),
            memory_free_bytes=int((gib if free_gib is None else free_gib) * GIB),
            nvlink_peers=tuple(other for other in uuids if other != uuid) if linked else (),
            **facts,
        )
        for uuid in uuids
    )


def node(*groups: tuple[Gpu, ...], **more: Any) -> Inventory:
    return Inventory(gpus=tuple(gpu for group in groups for gpu in group), **more)


def host(gib: float = 24.0, available_gib: float | None = None) -> Inventory:
    """A node without GPUs."""
    available = gib if available_gib is None else available_gib
    return Inventory(cpu_cores=2, memory_bytes=int(gib * GIB), memory_available_bytes=int(available * GIB))

"""Shapes to load without weights: config.json fields of models that a planner may get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pareta_agent.planning.memory.shape import parameters
from pareta_registry.catalog import Architecture, Variant
from pareta_registry.importers.architecture import architecture_facts


@dataclass(frozen=True, slots=True)
class Shape:
    """One row. `quant` is the planner's word for the weights; `online` are made of 16 bits as they are loaded."""

    name: str
    config: dict[str, Any]
    params_b: float
    quant: str = "none"
    online: bool = False

    @property
    def architecture(self) -> Architecture:
        return Architecture(**(architecture_facts(self.config, []) | {"params_b": self.params_b}))

    @property
    def variant(self) -> Variant:
        """Tables stay at 16 bits; the body takes what its format stores, scales included."""
        parts = parameters(self.architecture)
        tables = 2 * (parts.embedding + (0 if self.architecture.tied_embeddings else parts.head))
        body = parts.body
        if self.quant.startswith(
            "mxfp4"
        ):  # experts at 4 bits and a byte of scale for each 32, the rest at 16
            size = tables + 2 * parts.active_body + parts.experts * 17 // 32
        else:
            size = tables + (2 * body if self.quant == "none" else body)
        return Variant(
            name=self.name, quant=self.quant, artifact="sha256:" + "0" * 64, source="x", weights_bytes=size
        )

    @property
    def speaks_harmony(self) -> bool:
        return bool(self.config["model_type"] == "gpt_oss")

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--load-format", "dummy", *(("--quantization", "fp8_per_tensor") if self.online else ()))


def _config(kind: str, architecture: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += ("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings")
    plain = {"dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
    sized = dict(zip(names, sizes, strict=True))
    return {"architectures": [architecture], "model_type": kind, **plain, **sized, **more}


_LLAMA_8B = _config("llama", "LlamaForCausalLM", (4096, 14336, 32, 32, 8, 128, 128256, 131072))
_QWEN_14B = _config("qwen3", "Qwen3ForCausalLM", (5120, 17408, 40, 40, 8, 128, 151936, 40960))
_QWEN_32B = _config("qwen3", "Qwen3ForCausalLM", (5120, 25600, 64, 64, 8, 128, 151936, 40960))
_QWEN_MOE = _config(
    "qwen3_moe",
    "Qwen3MoeForCausalLM",
    (2048, 6144, 48, 32, 4, 128, 151936, 40960),
    num_experts=128,
    num_experts_per_tok=8,
    moe_intermediate_size=768,
    decoder_sparse_step=1,
    norm_topk_prob=True,
    mlp_only_layers=[],
)
_SMOLLM2 = _config(
    "llama", "LlamaForCausalLM", (576, 1536, 30, 9, 3, 64, 49152, 8192), tie_word_embeddings=True
)

_GPT_OSS = _config(
    "gpt_oss",
    "GptOssForCausalLM",
    (2880, 2880, 24, 64, 8, 64, 201088, 131072),
    num_local_experts=32,
    num_experts_per_tok=4,
    attention_bias=True,
    sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 12,
    swiglu_limit=7.0,
    rope_theta=150000,
    rms_norm_eps=1e-5,
    quantization_config={
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
    },
)
_BLOCKS = {
    "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    }
}  # fmt: skip
_QWEN_06B = _config(
    "qwen3",
    "Qwen3ForCausalLM",
    (1024, 3072, 28, 16, 8, 128, 151936, 40960),
    tie_word_embeddings=True,
)

CUDA = (
    Shape("llama-8b", _LLAMA_8B, 8.03),
    Shape("llama-8b-fp8-online", _LLAMA_8B, 8.03, "fp8-w8a8", online=True),
    Shape("qwen3-14b", _QWEN_14B, 14.8),
    Shape("qwen3-30b-a3b-fp8", _QWEN_MOE | _BLOCKS, 30.5, "fp8-block128"),
    Shape("qwen3-32b-fp8", _QWEN_32B | _BLOCKS, 32.8, "fp8-block128"),
    Shape("gpt-oss-20b", _GPT_OSS, 20.9, "mxfp4-moe"),
)
CPU = (
    Shape("smollm2-135m", _SMOLLM2, 0.1345),
    Shape("qwen3-0.6b", _QWEN_06B, 0.596),
)

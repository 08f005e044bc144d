"""Architecture facts: reads a catalog's architecture from config.json and tensor shapes. Pure.

Field names follow transformers; multimodal configs have a language model under `text_config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pareta_registry.errors import ArtifactError
from pareta_registry.importers.quantization import parameter_count, quantization_of
from pareta_registry.importers.safetensors import TensorInfo

_DTYPES = ("bfloat16", "float16", "float32")
_FULL, _SLIDING, _LINEAR = "full_attention", "sliding_attention", "linear_attention"
_MARKS = {"*": _FULL, "M": _LINEAR}
_REQUIRED = {
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "hidden": ("hidden_size", "n_embd"),
    "vocab": ("vocab_size",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
}


def architecture_facts(config: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> dict[str, Any]:
    """The fields of `catalog.Architecture` that the config contains. ArtifactError without a required field."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) and inner else config
    facts: dict[str, Any] = {
        "architecture": (config.get("architectures") or ["unknown"])[0],
        "params_b": round(parameter_count(tensors, quantization_of(config)) / 1e9, 6),
    }
    for ours, theirs in _REQUIRED.items():
        facts[ours] = next((text[name] for name in theirs if text.get(name)), None)
        if not isinstance(facts[ours], int):
            raise ArtifactError(
                "config_incomplete",
                f"config.json has no {theirs[0]}, or not as a number",
                "add the field in the form of transformers",
            )
    facts["kv_heads"] = text.get("num_key_value_heads") or facts["heads"]
    of_mla = text.get("qk_nope_head_dim") if text.get("kv_lora_rank") else None
    facts["head_dim"] = text.get("head_dim") or of_mla or facts["hidden"] // facts["heads"]
    facts["intermediate"] = text.get("intermediate_size") or 4 * facts["hidden"]
    facts["dtype"] = _dtype(config, text)
    facts["tied_embeddings"] = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    if text.get("model_type") == "gpt_oss" or any(tensor.name.endswith(".sinks") for tensor in tensors):
        facts["attention_sinks"] = True
    vision = config.get("vision_config") or {}
    vision_heads = vision.get("num_attention_heads") or vision.get("num_heads")
    return facts | _experts(text) | _attention(text, facts["layers"]) | _set(vision_heads=vision_heads)


def _dtype(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    named = [part.get(key) for part in (text, config) for key in ("dtype", "torch_dtype")]
    return next((str(name) for name in named if name in _DTYPES), "bfloat16")


def _experts(text: Mapping[str, Any]) -> dict[str, Any]:
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    count = next((text[name] for name in names if text.get(name)), None)
    if count is None:
        return {}
    return _set(
        num_experts=count,
        experts_per_tok=text.get("num_experts_per_tok") or text.get("experts_per_token"),
        moe_intermediate=text.get("moe_intermediate_size") or text.get("intermediate_size"),
    )


def _attention(text: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Facts of MLA, and of hybrids with several kinds of layers."""
    facts = _set(kv_lora_rank=text.get("kv_lora_rank"), qk_rope_head_dim=text.get("qk_rope_head_dim"))
    kinds = _layer_kinds(text, layers)
    sliding, linear = kinds.count(_SLIDING), kinds.count(_LINEAR)
    if sliding or linear:
        facts |= {
            "full_layers": kinds.count(_FULL),
            "sliding_layers": sliding,
            "linear_layers": linear,
        }
        facts |= _set(sliding_window=text.get("sliding_window") if sliding else None)
    return facts


def _layer_kinds(text: Mapping[str, Any], layers: int) -> list[str]:
    """The kind of each layer, empty for an unknown form. Known forms:

    layer_types              a list, transformers' own
    hybrid_override_pattern  a string of marks (Nemotron-H)
    sliding_window_pattern, full_attention_interval
                             the distance of full layers (Gemma 3 among sliding, Qwen3-Next among linear layers)
    """
    listed = text.get("layer_types")
    if isinstance(listed, list) and len(listed) == layers:
        return [str(kind) for kind in listed]
    marks = text.get("hybrid_override_pattern")
    if isinstance(marks, str) and len(marks) == layers:
        return [_MARKS.get(mark, "") for mark in marks]
    for name, between in (("sliding_window_pattern", _SLIDING), ("full_attention_interval", _LINEAR)):
        if isinstance(every := text.get(name), int) and every > 1:
            return [between if (layer + 1) % every else _FULL for layer in range(layers)]
    return []


def _set(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}

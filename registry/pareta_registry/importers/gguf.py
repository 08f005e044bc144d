"""GGUF import: converts a GGUF file to a Hugging Face directory (bfloat16 safetensors), without torch or
transformers.

Llama architecture only. The same input gives the same bytes on every machine, so that a catalog can name the digest.
Rows are streamed, so memory stays flat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf.quants import dequantize

from pareta_registry.errors import ArtifactError
from pareta_registry.importers.gguf_tokenizer import tokenizer_config, tokenizer_json
from pareta_registry.importers.safetensors import write_header

Progress = Callable[[int, int], None]
_CHUNK_ELEMENTS = 1 << 20

_LAYER_NAMES: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES: Mapping[str, str] = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def import_gguf(source: Path, target: Path, progress: Progress = lambda _done, _total: None) -> None:
    """Writes the checkpoint into the existing, empty directory `target`.

    `progress` receives the bytes of weights written and in total, and may raise to stop the work.
    """
    metadata, tensors = _read(source)
    config = _config(metadata, tied="output.weight" not in tensors)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    context = config["max_position_embeddings"]
    _write_json(target / "config.json", config)
    _write_json(target / "generation_config.json", _generation_config(config))
    _write_json(target / "tokenizer.json", tokenizer_json(metadata))
    _write_json(target / "tokenizer_config.json", tokenizer_config(metadata, context))
    template = metadata.get("tokenizer.chat_template")
    if template:
        (target / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
    with (target / "model.safetensors").open("wb") as out:
        _write_tensors(out, {_hf_name(name): tensor for name, tensor in tensors.items()}, heads, progress)


def _read(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        reader = gguf.GGUFReader(source)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ArtifactError(
            "gguf_unreadable", f"{source.name} is no readable GGUF file: {error}", "download the file again"
        ) from None
    return metadata, {tensor.name: tensor for tensor in reader.tensors}


def _config(metadata: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    """config.json of a LlamaForCausalLM; ArtifactError for features that this import would convert wrongly."""
    if metadata.get("split.count", 1) > 1:
        raise _unsupported(f"the file is one of {metadata['split.count']} parts (merge the parts first)")
    for key in metadata:
        if key.startswith(("llama.rope.scaling.", "llama.expert_")) and metadata[key] not in (0, "none"):
            raise _unsupported(f"the file uses {key}")
    if metadata.get("general.architecture") != "llama":
        raise _unsupported(f"its architecture is {metadata.get('general.architecture')!r}")
    try:
        heads = metadata["llama.attention.head_count"]
        hidden = metadata["llama.embedding_length"]
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "head_dim": metadata.get("llama.rope.dimension_count", hidden // heads),
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": metadata["llama.feed_forward_length"],
            "max_position_embeddings": metadata["llama.context_length"],
            "mlp_bias": False,
            "num_attention_heads": heads,
            "num_hidden_layers": metadata["llama.block_count"],
            "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
            "rms_norm_eps": _short(metadata["llama.attention.layer_norm_rms_epsilon"]),
            "rope_theta": _short(metadata.get("llama.rope.freq_base", 10000.0)),
            "tie_word_embeddings": tied,
            "dtype": "bfloat16",
            "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        }
    except KeyError as error:
        raise _unsupported(f"the file lacks {error.args[0]}") from None
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    ids = {ours: metadata.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in names.items()}
    return config | {name: index for name, index in ids.items() if index is not None}


def _generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"_from_model_config": True} | {name: config[name] for name in names if name in config}


def _hf_name(name: str) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    match name.split("."):
        case ["blk", layer, part, "weight"] if part in _LAYER_NAMES and layer.isdecimal():
            return f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
    raise _unsupported(f"the file holds the tensor {name!r}")


def _write_tensors(
    out: BinaryIO, tensors: Mapping[str, Any], heads: Mapping[str, int], progress: Progress
) -> None:
    # GGUF counts dimensions from the innermost; the data rows are the outermost.
    shapes = [(name, tuple(int(size) for size in reversed(tensors[name].shape))) for name in sorted(tensors)]
    total = write_header(out, shapes, "BF16")
    done = 0
    for name, _shape in shapes:
        tensor = tensors[name]
        rows = tensor.data
        part = tensor.name.split(".")[-2]
        if part in heads:
            rows = _unpermuted(rows, heads[part])
        for block in _bfloat16(rows, tensor.tensor_type, tensor.name):
            out.write(block)
            done += len(block)
            progress(done, total)


def _unpermuted(rows: Any, heads: int) -> Any:
    """Rows of q or k in the order of Hugging Face: GGUF interleaves the two halves of each head for rope.

    Quantized rows work too, because blocks never cross a row.
    """
    return (
        rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def _bfloat16(rows: Any, kind: Any, name: str) -> Iterator[bytes]:
    """Little-endian bfloat16 of the dequantized rows, in chunks, rounded to nearest even."""
    flat = rows.reshape(1, -1) if rows.ndim == 1 else rows
    step = max(1, _CHUNK_ELEMENTS // max(1, flat.shape[-1]))
    for start in range(0, flat.shape[0], step):
        values = np.ascontiguousarray(dequantize(flat[start : start + step], kind), dtype="<f4")
        if not np.isfinite(values).all():
            raise ArtifactError(
                "gguf_not_finite", f"tensor {name} holds values that are not finite", "get another copy"
            )
        bits = values.view("<u4")
        yield ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2").tobytes()


def _short(value: float) -> float:
    """The shortest decimal of the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="")


def _unsupported(reason: str) -> ArtifactError:
    return ArtifactError(
        "gguf_unsupported",
        f"this GGUF cannot be imported: {reason}",
        "import the Hugging Face checkpoint of the model instead",
    )

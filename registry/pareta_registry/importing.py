"""A checkpoint somebody has to an artifact and the model document that describes it.

Reads config.json and the safetensors headers, so that nobody types architecture facts or byte counts.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pareta_registry.adapters import describe_adapter, is_adapter
from pareta_registry.architecture import architecture_facts
from pareta_registry.build import build_manifest
from pareta_registry.download import download
from pareta_registry.errors import ArtifactError
from pareta_registry.manifest import MANIFEST_NAME, parse_manifest, path_refusal
from pareta_registry.safetensors import TensorInfo, read_header
from pareta_registry.stores import StoreSettings, open_store


def import_checkpoint(
    source: str, target: Path, settings: StoreSettings | None = None, *, code: bool = False
) -> dict[str, Any]:
    """Makes an artifact of a Hugging Face directory, a GGUF file, or what a store holds (`hf://`, `oci://` …).

    Writes it into the new directory `target`; returns its model document, ready for a catalog (of a LoRA adapter, the
    entry of a model's `adapters`). Names, license and the canaries are the owner's to fill. With `code` a directory's
    own Python comes along, for nodes that trust it. ArtifactError when the checkpoint is refused.
    """
    if target.exists() and any(target.iterdir()):
        raise ArtifactError("target_exists", f"{target} is not empty", "name a new directory")
    target.mkdir(parents=True, exist_ok=True)
    remote = "://" in source
    if remote:
        asyncio.run(_download(source, target, settings or StoreSettings()))
    elif Path(source).is_dir():
        _copy(Path(source), target, code)
    elif Path(source).is_file():
        from pareta_registry.gguf import import_gguf  # numpy is heavy, and only this needs it

        import_gguf(Path(source), target)
    else:
        raise ArtifactError(
            "source_missing", f"there is no checkpoint {source}", "give a directory or a .gguf"
        )
    manifest = build_manifest(target, code=code)
    (target / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    document = describe(target)
    if manifest.code and "variants" in document:
        document["trust_remote_code"] = True
    if remote:
        stored = document["variants"][0] if "variants" in document else document
        stored |= {"source": source, "files": manifest.model_dump(mode="json")["files"]}
    return document


async def _download(source: str, target: Path, settings: StoreSettings) -> None:
    store = open_store(source, settings)
    try:
        await download(store, target)
    finally:
        await store.close()


def describe(root: Path) -> dict[str, Any]:
    """The model document of an artifact directory, or an adapter's entry, as far as the files know it."""
    digest = _digest(root)
    if is_adapter(root):
        return describe_adapter(root, digest)
    config = _config(root)
    tensors = [tensor for file in sorted(root.glob("*.safetensors")) for tensor in read_header(file)]
    if not tensors:
        raise ArtifactError(
            "no_safetensors", f"{root} holds no safetensors", "convert the checkpoint to safetensors first"
        )
    facts = architecture_facts(config, tensors)
    return {
        "kind": "model",
        "id": root.name.lower(),
        "license": "unknown",
        "context": min(facts["max_position_embeddings"], _sentence_tokens(root)),
        "architecture": facts,
        "variants": [
            {
                "name": _quantization(config) or _dtype_name(tensors),
                "quant": _quantization(config) or "none",
                "artifact": digest,
                "source": root.resolve().as_uri(),
                "weights_bytes": sum(tensor.end - tensor.begin for tensor in tensors),
            }
        ],
    }


def _sentence_tokens(root: Path) -> float:
    """The longest text that a sentence transformer was trained for, which engines take for its context."""
    try:
        told = json.loads((root / "sentence_bert_config.json").read_bytes()).get("max_seq_length")
    except (OSError, ValueError, AttributeError):
        told = None
    return told if isinstance(told, int) and told > 0 else math.inf


def _digest(root: Path) -> str:
    try:
        return parse_manifest((root / MANIFEST_NAME).read_bytes(), str(root)).digest
    except OSError:
        raise ArtifactError(
            "artifact_missing",
            f"{root} is no artifact: it has no {MANIFEST_NAME}",
            "make one: `pareta-registry import`",
        ) from None


def _copy(source: Path, target: Path, code: bool) -> None:
    """Takes what an artifact may hold; a checkpoint usually brings more (pickles, pictures, caches)."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_dir() or path_refusal(name, code=code):
            continue
        into = target / name
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into)


def _config(root: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((root / "config.json").read_bytes())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise ArtifactError(
            "config_missing", f"{root} has no readable config.json", "give a complete checkpoint"
        )
    return config


def _quantization(config: Mapping[str, Any]) -> str | None:
    method = (config.get("quantization_config") or {}).get("quant_method")
    return str(method).lower() if method else None


def _dtype_name(tensors: list[TensorInfo]) -> str:
    largest = max(tensors, key=lambda tensor: tensor.end - tensor.begin)
    return largest.dtype.lower()

"""Description: makes the catalog's model document of an artifact directory from config.json and tensor headers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pareta_registry.artifacts.manifest import MANIFEST_NAME, Manifest, parse_manifest
from pareta_registry.catalog import slug
from pareta_registry.errors import ArtifactError, unreadable
from pareta_registry.importers.architecture import architecture_facts
from pareta_registry.importers.checkpoint_files import DOCUMENTS, Selection, select
from pareta_registry.importers.context_length import context_tokens
from pareta_registry.importers.peft import describe_adapter, is_adapter
from pareta_registry.importers.quantization import method_of, quantization_of, refusal
from pareta_registry.importers.safetensors import TensorInfo, read_header


def describe(root: Path, place: Path | None = None) -> dict[str, Any]:
    """The model document of the artifact in `root`, or an adapter's entry, with the fields that the files determine.

    `place`: the final directory, if other than `root`. ArtifactError for a refused artifact.
    """
    place = place or root
    manifest = _manifest(root)
    if is_adapter(root):
        return describe_adapter(root, manifest.digest, place)
    config = _config(root, place)
    quantization = quantization_of(config)
    if (reason := refusal(quantization)) is not None:
        raise ArtifactError(
            "quantization_refused", f"{place} is refused: {reason}", "import another variant of the model"
        )
    tensors = _tensors(root, _selection(root, manifest, place), place)
    facts = architecture_facts(config, tensors)
    method = method_of(quantization)
    return {
        "kind": "model",
        "id": slug(place.resolve().name, "model"),
        "license": "unknown",
        "context": context_tokens(root, config, tensors, facts["max_position_embeddings"]),
        "architecture": facts,
        "variants": [
            {
                "name": slug(method or _dtype_name(tensors), "weights"),
                "quant": method or "none",
                "artifact": manifest.digest,
                "source": place.resolve().as_uri(),
                "weights_bytes": sum(tensor.end - tensor.begin for tensor in tensors),
            }
        ],
    }


def _manifest(root: Path) -> Manifest:
    try:
        return parse_manifest((root / MANIFEST_NAME).read_bytes(), str(root))
    except OSError:
        raise ArtifactError(
            "artifact_missing",
            f"{root} is no artifact: {MANIFEST_NAME} is missing",
            "make an artifact with `pareta-registry import`",
        ) from None


def _selection(root: Path, manifest: Manifest, place: Path) -> Selection:
    paths = [file.path for file in manifest.files]
    return select(paths, {name: _read(root / name) for name in DOCUMENTS if name in paths}, str(place))


def _tensors(root: Path, selection: Selection, place: Path) -> list[TensorInfo]:
    """The tensors of all selected files, each once. Without an index a name in two files of a folder is refused."""
    found: dict[tuple[str, str], tuple[str, TensorInfo]] = {}
    for path in selection.weights:
        for tensor in read_header(root / path):
            other, _ = found.setdefault((path.rpartition("/")[0], tensor.name), (path, tensor))
            if other != path and selection.index is None:
                raise ArtifactError(
                    "tensor_twice",
                    f"tensor {tensor.name!r} of {place} is in {other} and in {path}",
                    f"remove one of the files, or add {DOCUMENTS[0]} with the right file for each tensor",
                )
    if not found:
        raise ArtifactError(
            "no_safetensors", f"{place} holds no safetensors", "convert the checkpoint to safetensors first"
        )
    return [tensor for _, tensor in found.values()]


def _config(root: Path, place: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((root / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ArtifactError(
            "config_missing", f"{place} has no readable config.json", "give a complete checkpoint"
        )
    return config


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error) from error


def _dtype_name(tensors: Sequence[TensorInfo]) -> str:
    largest = max(tensors, key=lambda tensor: tensor.end - tensor.begin)
    return largest.dtype.lower()

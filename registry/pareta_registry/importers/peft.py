"""PEFT import: describes a LoRA adapter from peft, and writes the entry into the text of a model's document.

Refuses features that engines do not apply (DoRA, biases, whole modules), while the publisher can still correct the
adapter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pareta_registry.catalog import slug
from pareta_registry.documents.document import Located, read_documents
from pareta_registry.errors import ArtifactError
from pareta_registry.files import write_atomically
from pareta_registry.importers.checkpoint_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pareta_registry.importers.safetensors import read_header
from pareta_registry.load import load_catalog

_UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "layer_replication", "alora_invocation_tokens")
_REWRITE_THE_BASE = re.compile("pissa|olora|corda|loftq", re.IGNORECASE)
_SUFFIX = re.compile(r"lora_(?:embedding_)?[AB]\b")


def is_adapter(root: Path) -> bool:
    return (root / ADAPTER_CONFIG).is_file()


def describe_adapter(root: Path, digest: str, place: Path) -> dict[str, Any]:
    """The catalog entry of the adapter in `root`, with the fields that the files determine. `place`: the final
    directory.

    ArtifactError for an adapter that engines would apply only in part.
    """
    try:
        config = json.loads((root / ADAPTER_CONFIG).read_bytes())
        rank = max(config["r"], *(config.get("rank_pattern") or {}).values(), 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _refused(place, f"{ADAPTER_CONFIG} is not readable, or has no rank") from None
    if (reason := _unsupported(config)) is not None:
        raise _refused(place, reason)
    if not (root / ADAPTER_WEIGHTS).is_file():
        raise _refused(place, f"it has no {ADAPTER_WEIGHTS} (pickles are refused)")
    tensors = read_header(root / ADAPTER_WEIGHTS)
    strange = [tensor.name for tensor in tensors if not _SUFFIX.search(tensor.name)]
    if strange or not tensors:
        raise _refused(
            place, f"tensor {strange[0]!r} is no low-rank factor" if strange else "it holds no tensors"
        )
    return {
        "name": slug(place.resolve().name, "adapter"),
        "artifact": digest,
        "source": place.resolve().as_uri(),
        "rank": rank,
        "weights_bytes": sum(tensor.end - tensor.begin for tensor in tensors),
    }


def add_adapter(catalog: Path, model: str, entry: Mapping[str, Any]) -> Path:
    """Writes the entry into the model's document and returns that file.

    ArtifactError for another entry than an adapter's, or for a document of unsupported shape; CatalogError if the
    catalog would become invalid. The file then stays unchanged.
    """
    if "rank" not in entry:
        raise ArtifactError("not_an_adapter", f"the artifact for {model} is no LoRA adapter", "remove --to")
    path, text = _with_adapter(catalog, model, entry)
    load_catalog(catalog, {path: text})
    write_atomically(path.resolve(), text.encode())
    return path


def _with_adapter(catalog: Path, model: str, entry: Mapping[str, Any]) -> tuple[Path, str]:
    """The file of the model's document, and its text with the entry added; all other text stays."""
    for path in sorted(p for p in catalog.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file()):
        text = path.read_text(encoding="utf-8")
        documents = list(read_documents(text, path.name))
        for located in documents:
            value = located.value
            if isinstance(value, dict) and (value.get("kind"), value.get("id")) == ("model", model):
                return path, _inserted(text, located, entry, alone=len(documents) == 1)
    raise ArtifactError(
        "model_missing", f"{catalog} has no YAML document of model {model!r}", "add the model first"
    )


def _inserted(text: str, located: Located, entry: Mapping[str, Any], *, alone: bool) -> str:
    item = yaml.safe_dump([dict(entry)], sort_keys=False)
    lines = text.splitlines(keepends=True)
    if "adapters" not in located.value and alone:
        return f"{text.rstrip()}\nadapters:\n{item}"
    first = located.line(("adapters", 0))
    if not first or not lines[first - 1].lstrip().startswith("- "):
        raise ArtifactError(
            "document_shape",
            f"{located.file} has a shape that a program cannot extend",
            f"add by hand: adapters:\n{item}",
        )
    indent = " " * (len(lines[first - 1]) - len(lines[first - 1].lstrip()))
    lines[first - 1 : first - 1] = [f"{indent}{line}\n" for line in item.splitlines()]
    return "".join(lines)


def _unsupported(config: Mapping[str, Any]) -> str | None:
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        return f"its type is {config['peft_type']}, not LORA"
    if config.get("bias", "none") != "none":
        return "it trains biases, which engines do not apply"
    if _REWRITE_THE_BASE.search(str(config.get("init_lora_weights"))):
        return f"its initialization ({config['init_lora_weights']}) rewrote the base's weights: convert to plain LoRA"
    used = [name for name in _UNSUPPORTED if config.get(name)]
    return f"engines do not apply its {used[0]}" if used else None


def _refused(root: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        "adapter_refused", f"{root} is refused: {reason}", "export a plain LoRA adapter with peft"
    )

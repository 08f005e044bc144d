"""Checkpoint: selects the files of a Hugging Face directory that an engine reads, by the rules of vLLM's loader.
Pure.

    adapter_config.json                   adapter_model.safetensors
    model.safetensors.index.json          only the files of its `weight_map`
    neither                               every *.safetensors of the top folder, without consolidated* beside others
    modules.json (sentence transformers)  also model.safetensors in the folders of the list

`total_size` of an index is not read: published indices often carry the size of another precision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pareta_registry.artifacts.manifest import path_refusal
from pareta_registry.documents.canonical import unique
from pareta_registry.errors import ArtifactError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
MODULES = "modules.json"
_CONSOLIDATED = "consolidated"
_CONSOLIDATED_INDEX = "consolidated.safetensors.index.json"
DOCUMENTS = (INDEX, _CONSOLIDATED_INDEX, MODULES)
"""The small files that a selection reads, if present."""
MAX_DOCUMENT_BYTES = 64 << 20
_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".onnx_data", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class Selection:
    """`weights` are the selected files, `folders` the folders of modules.json, `index` the index used."""

    weights: tuple[str, ...]
    index: str | None = None
    folders: frozenset[str] = frozenset()

    def kept(self, paths: Collection[str], *, code: bool = False) -> tuple[str, ...]:
        """The files of an artifact of this checkpoint: the selected weights and the text files.

        A folder with other weights is another checkpoint, and is left out whole.
        """
        others = {"original"} | {
            path.split("/")[0]
            for path in paths
            if "/" in path and path.endswith(_WEIGHT_SUFFIXES) and path not in self.weights
        }
        return tuple(
            path
            for path in sorted(paths)
            if path_refusal(path, code=code) is None
            and ("/" not in path or path.split("/")[0] not in others - self.folders)
            and self._counts(path)
        )

    def _counts(self, path: str) -> bool:
        if path.endswith(".safetensors"):
            return path in self.weights
        return not path.endswith(".index.json") or path == self.index


def select(paths: Collection[str], documents: Mapping[str, bytes], where: str) -> Selection:
    """The selection over the files `paths`; `documents` holds the present files of `DOCUMENTS`.

    ArtifactError for a wrong index or a missing weight file.
    """
    top = sorted(path for path in paths if "/" not in path and path.endswith(".safetensors"))
    if ADAPTER_CONFIG in paths:
        return Selection(tuple(path for path in top if path == ADAPTER_WEIGHTS))
    plain = [path for path in top if not path.startswith(_CONSOLIDATED)]
    index = INDEX if INDEX in paths else None
    if index is None and not plain and _CONSOLIDATED_INDEX in paths:
        index = _CONSOLIDATED_INDEX
    if index is not None:
        weights = _indexed(top, documents[index], f"{index} in {where}")
    else:
        weights = _complete(plain or top, where)
    folders = frozenset(_module_folders(documents.get(MODULES, b"")))
    dense = [path for folder in sorted(folders) if (path := f"{folder}/model.safetensors") in paths]
    return Selection((*weights, *dense), index, folders)


def _indexed(top: Collection[str], document: bytes, where: str) -> list[str]:
    """The weight files of an index, each once."""
    names = sorted(set(_weight_map(document, where).values()))
    for name in names:
        if (reason := _name_refusal(name)) is not None:
            raise ArtifactError("index_invalid", f"{where} is refused: {reason}", "write the index again")
    if missing := [name for name in names if name not in top]:
        raise _missing(f"{where} names {_listed(missing)}, which the checkpoint lacks")
    return names


def _weight_map(document: bytes, where: str) -> dict[str, str]:
    try:
        index = json.loads(document, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            "index_invalid", f"{where} is not JSON: {error}", "write the index again"
        ) from None
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not found:
        raise ArtifactError("index_invalid", f"{where} has no weight_map", "write the index again")
    for tensor, name in found.items():
        if not isinstance(name, str):
            raise ArtifactError(
                "index_invalid",
                f"{where} is refused: the file of tensor {tensor!r} is {name!r}, not a name",
                "write the index again",
            )
    return found


def _name_refusal(name: str) -> str | None:
    if (reason := path_refusal(name)) is not None:
        return reason
    if "/" in name or not name.endswith(".safetensors"):
        return f"{name!r} is no safetensors file beside the index"
    return None


def _complete(top: list[str], where: str) -> list[str]:
    """Checks for missing shards by the numbers in the names, for a checkpoint without an index."""
    sets: dict[tuple[str, int], set[int]] = {}
    for found in filter(None, map(_SHARD.fullmatch, top)):
        sets.setdefault((found[1], int(found[3])), set()).add(int(found[2]))
    for (stem, total), numbers in sets.items():
        if total > len(numbers):
            raise _missing(f"{where} holds {len(numbers)} of the {total} files {stem}-*-of-*.safetensors")
    return top


def _module_folders(document: bytes) -> Iterator[str]:
    try:
        modules = json.loads(document or b"[]")
    except (ValueError, RecursionError):
        return
    for module in modules if isinstance(modules, list) else []:
        folder = module.get("path") if isinstance(module, dict) else None
        if isinstance(folder, str) and folder and "/" not in folder:
            yield folder


def _missing(message: str) -> ArtifactError:
    return ArtifactError("shard_missing", message, "complete the checkpoint, or correct the index")


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest

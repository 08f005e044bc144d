"""Checkpoint import: makes an artifact and the model document from a checkpoint.

Architecture facts and byte counts come from config.json and the safetensors headers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import MANIFEST_NAME
from pareta_registry.errors import ArtifactError
from pareta_registry.importers.download import download
from pareta_registry.importers.local_checkpoint import copy_checkpoint
from pareta_registry.importers.model_document import describe
from pareta_registry.importers.staging import staged
from pareta_registry.stores import StoreSettings, open_store

__all__ = ["describe", "import_checkpoint"]


def import_checkpoint(
    source: str, target: Path, settings: StoreSettings | None = None, *, code: bool = False
) -> dict[str, Any]:
    """Makes an artifact of a Hugging Face directory, a GGUF file, or a store's files (`hf://`, `oci://` …).

    Writes the new directory `target`, whole or not at all. Returns the model document for a catalog, or for a LoRA
    adapter the entry of a model's `adapters`. The owner adds names, license and canaries. With `code` a directory's
    own Python is included, for nodes that trust the code. ArtifactError for a refused checkpoint.
    """
    with staged(target) as work:
        _bring(source, work, settings or StoreSettings(), code)
        manifest = build_manifest(work, code=code)
        (work / MANIFEST_NAME).write_bytes(manifest.to_bytes())
        document = describe(work, target)
    if manifest.code and "variants" in document:
        document["trust_remote_code"] = True
    if "://" in source:
        stored = document["variants"][0] if "variants" in document else document
        stored |= {"source": source, "files": manifest.model_dump(mode="json")["files"]}
    return document


def _bring(source: str, work: Path, settings: StoreSettings, code: bool) -> None:
    """Copies, converts or downloads the files of an artifact."""
    if "://" in source:
        asyncio.run(_download(source, work, settings))
    elif Path(source).is_dir():
        copy_checkpoint(Path(source), work, code=code)
    elif Path(source).is_file():
        from pareta_registry.importers.gguf import (
            import_gguf,  # numpy is heavy, and only this import needs numpy
        )

        import_gguf(Path(source), work)
    else:
        link = Path(source).is_symlink()
        raise ArtifactError(
            "source_missing",
            f"{source} links to {Path(source).readlink()}, which does not exist"
            if link
            else f"there is no checkpoint {source}",
            "give a directory or a .gguf",
        )


async def _download(source: str, target: Path, settings: StoreSettings) -> None:
    store = open_store(source, settings)
    try:
        await download(store, target)
    finally:
        await store.close()

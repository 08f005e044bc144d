"""A checkpoint somebody has to an artifact and the model document that describes it.

Reads config.json and the safetensors headers, so that nobody types architecture facts or byte counts.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pareta_registry.build import build_manifest
from pareta_registry.describe import describe
from pareta_registry.download import download
from pareta_registry.errors import ArtifactError
from pareta_registry.local_checkpoint import copy_checkpoint
from pareta_registry.manifest import MANIFEST_NAME
from pareta_registry.staging import staged
from pareta_registry.stores import StoreSettings, open_store

__all__ = ["describe", "import_checkpoint"]


def import_checkpoint(
    source: str, target: Path, settings: StoreSettings | None = None, *, code: bool = False
) -> dict[str, Any]:
    """Makes an artifact of a Hugging Face directory, a GGUF file, or what a store holds (`hf://`, `oci://` …).

    Writes it into the new directory `target`, whole or not at all. Returns its model document, ready for a catalog
    (of a LoRA adapter, the entry of a model's `adapters`). Names, license and the canaries are the owner's to fill.
    With `code` a directory's own Python comes along, for nodes that trust it. ArtifactError when the checkpoint is
    refused.
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
    """The files of an artifact from wherever they are."""
    if "://" in source:
        asyncio.run(_download(source, work, settings))
    elif Path(source).is_dir():
        copy_checkpoint(Path(source), work, code=code)
    elif Path(source).is_file():
        from pareta_registry.gguf import import_gguf  # numpy is heavy, and only this needs it

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

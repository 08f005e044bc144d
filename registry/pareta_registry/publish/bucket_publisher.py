"""Bucket publishing: copies an artifact into a bucket: the files, then the signature, then the manifest.

An artifact with another digest stays, because a catalog may name it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    SIGNATURE_NAME,
    Manifest,
    parse_manifest,
)
from pareta_registry.errors import ArtifactError
from pareta_registry.signing.keys import PrivateKey
from pareta_registry.signing.model_signature import bundle_of
from pareta_registry.stores.base import read_small
from pareta_registry.stores.bucket import BucketStore
from pareta_registry.stores.settings import StoreSettings


async def publish_to_bucket(
    root: Path, target: str, settings: StoreSettings, key: PrivateKey | None = None
) -> Manifest:
    """Copies the artifact in `root` under the prefix `target`; ArtifactError if another artifact is there."""
    imported = (root / MANIFEST_NAME).is_file()
    manifest = await asyncio.to_thread(build_manifest, root, code=imported)
    bundle = await asyncio.to_thread(bundle_of, root, manifest, key)
    store = BucketStore(target, settings)
    there = await _digest(store)
    if there not in (None, manifest.digest):
        raise ArtifactError(
            "target_exists",
            f"{target} holds the artifact {there}, not {manifest.digest}",
            "publish under another prefix: catalogs may name the present artifact",
        )
    if there is None:
        for file in manifest.files:
            await store.write(file.path, root / file.path)
    if bundle is not None:
        await store.write(SIGNATURE_NAME, bundle)
    await store.write(MANIFEST_NAME, manifest.to_bytes())
    return manifest


async def _digest(store: BucketStore) -> str | None:
    try:
        data = await read_small(store, MANIFEST_NAME, MAX_MANIFEST_BYTES + 1)
    except ArtifactError as error:
        if error.code != "artifact_missing":
            raise
        return None
    return parse_manifest(data, store.where).digest

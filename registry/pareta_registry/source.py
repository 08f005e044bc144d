"""From a store to the manifest of what lies in it, checked against the digest that the catalog names."""

from __future__ import annotations

from contextlib import aclosing

from pareta_registry.errors import ArtifactError
from pareta_registry.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from pareta_registry.stores.base import Store


async def read_manifest(store: Store, digest: str) -> Manifest:
    """The artifact's manifest; ArtifactError `digest_mismatch` when it is not the one of `digest`."""
    entry = await store.stat(MANIFEST_NAME)
    data = bytearray()
    async with aclosing(
        store.read(MANIFEST_NAME, 0, min(entry.size_bytes, MAX_MANIFEST_BYTES + 1))
    ) as pieces:
        async for piece in pieces:
            data += piece
    manifest = parse_manifest(bytes(data), store.where)
    if manifest.digest != digest:
        raise ArtifactError(
            "digest_mismatch",
            f"{store.where} holds the artifact {manifest.digest}, the catalog names {digest}",
            "publish the artifact again, or correct the variant's `artifact` in the catalog",
        )
    return manifest

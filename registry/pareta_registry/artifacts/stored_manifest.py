"""Manifest source: reads an artifact's manifest from a store, and checks the manifest against the catalog's digest."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from pareta_registry.artifacts.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    ArtifactFile,
    Manifest,
    parse_manifest,
)
from pareta_registry.errors import ArtifactError
from pareta_registry.stores.base import Store, read_small


async def read_manifest(store: Store, digest: str, files: Sequence[ArtifactFile] = ()) -> Manifest:
    """The artifact's manifest; ArtifactError `digest_mismatch` for another digest than `digest`.

    Sources, in this order: `files`, where the catalog lists the files; the hashes of a store that keeps hashes (an
    OCI registry); the store's manifest file.
    """
    if files:
        manifest = Manifest(files=tuple(files))
    else:
        manifest = await (_listed(store) if store.keeps_hashes else _written(store))
    if manifest.digest != digest:
        raise ArtifactError(
            "digest_mismatch",
            f"{store.where} holds the artifact {manifest.digest}, the catalog names {digest}",
            "publish the artifact again, or correct the variant's `artifact` in the catalog",
        )
    return manifest


async def _listed(store: Store) -> Manifest:
    entries = await store.list()
    try:
        return Manifest(
            files=tuple(
                ArtifactFile(path=entry.path, sha256=entry.sha256 or "", size_bytes=entry.size_bytes)
                for entry in entries
            )
        )
    except ValidationError as error:
        reason = error.errors(include_url=False, include_context=False)[0]["msg"]
        raise ArtifactError(
            "manifest_invalid", f"the artifact at {store.where} is refused: {reason}", "publish it again"
        ) from None


async def _written(store: Store) -> Manifest:
    data = await read_small(store, MANIFEST_NAME, MAX_MANIFEST_BYTES + 1)
    return parse_manifest(data, store.where)

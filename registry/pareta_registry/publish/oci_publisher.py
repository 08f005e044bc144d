"""OCI publishing: pushes an artifact directory to an OCI registry: missing blobs, then the manifest, then the tag.

The manifest goes last, so that a reader never finds a name without bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import MANIFEST_NAME, Manifest
from pareta_registry.artifacts.modelpack import MANIFEST_TYPE, model_config, pack, unpack
from pareta_registry.documents.canonical import sha256_digest
from pareta_registry.errors import ArtifactError
from pareta_registry.signing.keys import PrivateKey
from pareta_registry.signing.model_signature import BUNDLE_TYPE, bundle_of, sign_manifest
from pareta_registry.stores.oci_push import has_blob, push_blob, put_document, put_manifest
from pareta_registry.stores.oci_reference import parse_reference, signature_tag
from pareta_registry.stores.oci_repository import OciRepository
from pareta_registry.stores.settings import StoreSettings

_PIECE_BYTES = 1 << 20


class _FileBody:
    """A request body that can be sent twice."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        self._path = path
        self._on_bytes = on_bytes

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
                self._on_bytes(len(piece))


async def publish(
    root: Path,
    target: str,
    settings: StoreSettings,
    on_bytes: Callable[[int], None] = lambda _count: None,
    key: PrivateKey | None = None,
) -> tuple[Manifest, str]:
    """Pushes the artifact in `root` to `target` (`oci://…:tag`); returns the manifest and the OCI manifest's digest.

    With `key` the artifact is signed, else a signature in `root` is pushed along. `on_bytes` receives the count of
    bytes sent or already present. ArtifactError if the registry refuses.
    """
    reference = parse_reference(target)
    imported = (root / MANIFEST_NAME).is_file()  # an import decided which files belong to the artifact
    manifest = await asyncio.to_thread(build_manifest, root, code=imported)
    repository = OciRepository(reference, settings, "pull,push")
    try:
        for file in manifest.files:
            digest = f"sha256:{file.sha256}"
            if await has_blob(repository, digest):
                on_bytes(file.size_bytes)
            else:
                await push_blob(repository, digest, file.size_bytes, _FileBody(root / file.path, on_bytes))
        config = model_config(manifest)
        config_digest = sha256_digest(config)
        if not await has_blob(repository, config_digest):
            await push_blob(repository, config_digest, len(config), config)
        document = pack(manifest, config_digest, len(config))
        await put_manifest(repository, reference.reference, document)
        bundle = await asyncio.to_thread(bundle_of, root, manifest, key)
        if bundle is not None:
            await _put_signature(repository, document, bundle)
    finally:
        await repository.close()
    return manifest, sha256_digest(document)


async def pinned(source: str, artifact: str, settings: StoreSettings) -> str:
    """`source` with the present digest of its tag. ArtifactError unless the tag holds the artifact `artifact`."""
    reference = parse_reference(source)
    repository = OciRepository(reference, settings)
    try:
        document = await repository.manifest()
    finally:
        await repository.close()
    found = unpack(document, source).digest
    if found != artifact:
        raise ArtifactError(
            "digest_mismatch",
            f"{source} holds the artifact {found}, not {artifact}",
            "publish the artifact there first",
        )
    return f"oci://{reference.host}/{reference.name}@{sha256_digest(document)}"


async def sign_published(source: str, key: PrivateKey, settings: StoreSettings) -> Manifest:
    """Signs the artifact at `source` inside its registry; ArtifactError if `source` holds no artifact."""
    repository = OciRepository(parse_reference(source), settings, "pull,push")
    try:
        document = await repository.manifest()
        manifest = unpack(document, source)
        await _put_signature(repository, document, sign_manifest(manifest, key))
    finally:
        await repository.close()
    return manifest


async def _put_signature(repository: OciRepository, document: bytes, bundle: bytes) -> None:
    digest = sha256_digest(document)
    subject = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(document)}
    await put_document(repository, signature_tag(digest), BUNDLE_TYPE, bundle, subject)

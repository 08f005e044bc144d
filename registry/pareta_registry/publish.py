"""An artifact directory to an OCI registry: blobs that are missing there, then the manifest, then the tag.

The manifest goes last, so that a reader never finds a name without its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from yarl import URL

from pareta_registry.build import build_manifest
from pareta_registry.canonical import sha256_digest
from pareta_registry.errors import ArtifactError
from pareta_registry.manifest import Manifest
from pareta_registry.modelpack import MANIFEST_TYPE, model_config, pack
from pareta_registry.stores.oci_reference import parse_reference
from pareta_registry.stores.oci_repository import OciRepository
from pareta_registry.stores.settings import StoreSettings

_PIECE_BYTES = 1 << 20


class _FileBody:
    """A request body that can be sent twice, read in a thread."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        self._path = path
        self._on_bytes = on_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                yield piece
                self._on_bytes(len(piece))
        finally:
            file.close()


async def publish(
    root: Path,
    target: str,
    settings: StoreSettings,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> tuple[Manifest, str]:
    """Pushes the artifact in `root` to `target` (`oci://…:tag`); returns it and the OCI manifest's digest.

    `on_bytes` hears of bytes that were sent or were already there. ArtifactError when the registry refuses.
    """
    reference = parse_reference(target)
    manifest = await asyncio.to_thread(build_manifest, root)
    repository = OciRepository(reference, settings, "pull,push")
    try:
        for file in manifest.files:
            digest = f"sha256:{file.sha256}"
            if await _has(repository, digest):
                on_bytes(file.size_bytes)
            else:
                await _push(repository, digest, file.size_bytes, _FileBody(root / file.path, on_bytes))
        config = model_config(manifest)
        config_digest = sha256_digest(config)
        if not await _has(repository, config_digest):
            await _push(repository, config_digest, len(config), config)
        document = pack(manifest, config_digest, len(config))
        await _put_manifest(repository, reference.reference, document)
    finally:
        await repository.close()
    return manifest, sha256_digest(document)


async def _has(repository: OciRepository, digest: str) -> bool:
    url = repository.url("blobs", digest)
    async with repository.request("HEAD", url) as response:
        if response.status == 404:
            return False
        repository.http.check(response, url)
        return True


async def _push(repository: OciRepository, digest: str, size_bytes: int, body: _FileBody | bytes) -> None:
    start = repository.url("blobs", "uploads/")
    async with repository.request("POST", start, {"Content-Length": "0"}) as response:
        repository.http.check(response, start)
        location = response.headers.get("Location", "")
    if not location:
        raise ArtifactError("store_refused", f"{start.host} offers no place to upload to", "look at its log")
    url = start.join(URL(location, encoded=True))
    query = f"{url.raw_query_string}&" if url.raw_query_string else ""
    upload = URL(f"{url.with_query(None)}?{query}digest={digest}", encoded=True)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
    async with repository.request("PUT", upload, headers, body) as response:
        repository.http.check(response, upload)


async def _put_manifest(repository: OciRepository, reference: str, document: bytes) -> None:
    url = repository.url("manifests", reference)
    async with repository.request("PUT", url, {"Content-Type": MANIFEST_TYPE}, document) as response:
        repository.http.check(response, url)

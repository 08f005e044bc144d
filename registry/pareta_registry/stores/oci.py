"""OCI store: reads an artifact in a CNCF distribution registry, as a ModelPack manifest with one blob a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from pareta_registry.artifacts.manifest import ArtifactFile, Manifest
from pareta_registry.artifacts.modelpack import unpack
from pareta_registry.documents.canonical import sha256_digest
from pareta_registry.errors import ArtifactError
from pareta_registry.signing.model_signature import BUNDLE_TYPE
from pareta_registry.stores.base import MAX_SIGNATURE_BYTES, Piece, StoreEntry
from pareta_registry.stores.oci_reference import parse_reference, signature_tag
from pareta_registry.stores.oci_repository import OciRepository
from pareta_registry.stores.settings import StoreSettings


class OciStore:
    """Reads ranges of blobs; the manifest maps files to blobs."""

    keeps_hashes = True

    def __init__(self, source: str, settings: StoreSettings) -> None:
        self.where = source
        self._repository = OciRepository(parse_reference(source), settings)
        self._manifest: Manifest | None = None

    async def list(self) -> tuple[StoreEntry, ...]:
        if self._manifest is None:
            self._manifest = unpack(await self._repository.manifest(), self.where)
        return tuple(StoreEntry(file.path, file.size_bytes, file.sha256) for file in self._manifest.files)

    async def stat(self, path: str) -> StoreEntry:
        file = await self._file(path)
        return StoreEntry(file.path, file.size_bytes, file.sha256)

    async def read(self, path: str, start: int, stop: int) -> AsyncGenerator[Piece]:
        file = await self._file(path)
        url = self._repository.url("blobs", f"sha256:{file.sha256}")
        async with self._repository.request("GET", url, {"Range": f"bytes={start}-{stop - 1}"}) as response:
            async for piece in self._repository.http.pieces(response, url, start, stop):
                yield piece

    async def signature(self) -> bytes | None:
        digest = sha256_digest(await self._repository.manifest())
        return await self._repository.document(signature_tag(digest), BUNDLE_TYPE, MAX_SIGNATURE_BYTES)

    def local_path(self, _path: str, /) -> Path | None:
        return None

    async def close(self) -> None:
        await self._repository.close()

    async def _file(self, path: str) -> ArtifactFile:
        await self.list()
        for file in self._manifest.files if self._manifest else ():
            if file.path == path:
                return file
        raise ArtifactError("artifact_missing", f"{self.where} has no {path}", "publish the artifact again")

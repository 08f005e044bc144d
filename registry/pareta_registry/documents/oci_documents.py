"""OCI documents: stores published catalogs in an OCI repository: a channel is a tag, a catalog a blob named by
digest.
"""

from __future__ import annotations

from pareta_registry.documents.document_store import missing
from pareta_registry.media_types import CATALOG_TYPE, POINTER_TYPE
from pareta_registry.stores.oci_push import put_document, remove_tagged
from pareta_registry.stores.oci_reference import parse_reference
from pareta_registry.stores.oci_repository import OciRepository
from pareta_registry.stores.settings import StoreSettings

_HEX = 64


class OciDocuments:
    """`catalogs/sha256-<hex>.json` has the tag `catalog-<hex>`, which protects the blob from the registry's garbage
    collection.
    """

    def __init__(self, source: str, settings: StoreSettings) -> None:
        self.where = source
        reference = parse_reference(source)
        self._reader = OciRepository(reference, settings)
        self._writer = OciRepository(reference, settings, "pull,push")
        self._remover = OciRepository(reference, settings, "pull,delete")

    async def read(self, name: str, max_bytes: int) -> bytes:
        found = await self._reader.document(_tag(name), _kind(name), max_bytes)
        if found is None:
            raise missing(self.where, name)
        return found

    async def write(self, name: str, data: bytes) -> None:
        await put_document(self._writer, _tag(name), _kind(name), data)

    async def names(self) -> list[str]:
        return sorted(_name(tag) for tag in await self._reader.tags())

    async def remove(self, name: str) -> None:
        await remove_tagged(self._remover, _tag(name))

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()
        await self._remover.close()


def _tag(name: str) -> str:
    kind, _, stem = name.removesuffix(".json").partition("/")
    return stem.replace("sha256-", "catalog-", 1) if kind == "catalogs" else stem


def _name(tag: str) -> str:
    found = tag.removeprefix("catalog-")
    is_catalog = tag != found and len(found) == _HEX
    return f"catalogs/sha256-{found}.json" if is_catalog else f"channels/{tag}.json"


def _kind(name: str) -> str:
    return CATALOG_TYPE if name.startswith("catalogs/") else POINTER_TYPE

"""Channel: publishes catalogs, and points a channel (`stable`, `canary`) at one of them.

    catalogs/sha256-<hex>.json   a catalog, named by digest, never changed
    channels/<name>.json         a signed pointer: channel, serial, catalog digest

The serial only grows, also for a rollback, which is a new pointer to an older catalog. A replayed old pointer is
therefore recognised.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pareta_registry.catalog import Catalog, Digest, Slug
from pareta_registry.documents.canonical import canonical_json, read_json, sha256_digest
from pareta_registry.documents.document_store import DocumentReader, DocumentWriter
from pareta_registry.errors import ArtifactError, TrustError
from pareta_registry.load import catalog_bytes
from pareta_registry.media_types import POINTER_TYPE
from pareta_registry.signing.dsse import unwrap, wrap
from pareta_registry.signing.keys import PrivateKey, PublicKey

MAX_BYTES = 32 << 20


class Pointer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: Slug
    serial: int = Field(ge=1, strict=True)
    catalog: Digest

    def follows(self, seen: Pointer) -> bool:
        """True if this pointer may replace `seen`: a later serial, or the same serial with the same catalog."""
        return self.serial > seen.serial or self == seen


def catalog_path(digest: str) -> str:
    return f"catalogs/{digest.replace(':', '-')}.json"


def channel_path(channel: str) -> str:
    return f"channels/{channel}.json"


def read_pointer(envelope: bytes, channel: str, trusted: Sequence[PublicKey], where: str) -> Pointer:
    """The pointer of `channel` with a verified signature; TrustError otherwise."""
    payload = unwrap(read_json(envelope), POINTER_TYPE, trusted, where)
    try:
        pointer = Pointer.model_validate_json(payload)
    except ValidationError:
        raise TrustError(
            "envelope_invalid", f"{where} holds no channel", "promote the catalog again"
        ) from None
    if pointer.channel != channel:
        raise TrustError(
            "envelope_invalid",
            f"{where} is the channel {pointer.channel!r}",
            "correct the address or the channel",
        )
    return pointer


async def read_catalog(reader: DocumentReader, digest: str) -> bytes:
    """The bytes of a published catalog; TrustError for another digest."""
    data = await reader.read(catalog_path(digest), MAX_BYTES)
    if sha256_digest(data) != digest:
        raise TrustError(
            "catalog_altered",
            f"the catalog {digest} at {reader.where} was altered",
            "promote the catalog again",
        )
    return data


async def promote(
    root: DocumentWriter, catalog: Catalog, channel: str, keys: Sequence[PrivateKey]
) -> Pointer:
    """Publishes `catalog` at `root` and points `channel` at the new document."""
    await root.write(catalog_path(catalog.digest), catalog_bytes(catalog.tasks, catalog.models))
    return await _point(root, catalog.digest, channel, keys)


async def retag(root: DocumentWriter, digest: str, channel: str, keys: Sequence[PrivateKey]) -> Pointer:
    """Points `channel` at a published catalog: a promotion from another channel, or a rollback."""
    await read_catalog(root, digest)
    return await _point(root, digest, channel, keys)


async def catalog_of(root: DocumentReader, channel: str) -> str:
    """The digest of the catalog that `channel` points at."""
    envelope = await root.read(channel_path(channel), MAX_BYTES)
    return read_pointer(envelope, channel, (), root.where).catalog


async def sign(root: DocumentWriter, channel: str, keys: Sequence[PrivateKey]) -> Pointer:
    """Signs the channel's present pointer."""
    envelope = await root.read(channel_path(channel), MAX_BYTES)
    pointer = read_pointer(envelope, channel, (), root.where)
    await _write(root, pointer, keys)
    return pointer


async def unused_catalogs(root: DocumentWriter) -> list[str]:
    """The digests of published catalogs without a channel."""
    names = await root.names()
    if not names:
        raise ArtifactError(
            "artifact_missing",
            f"{root.where} holds no published catalogs",
            "promote a catalog, or name another place",
        )
    channels = [name[len("channels/") : -len(".json")] for name in names if name.startswith("channels/")]
    used = {catalog_path(await catalog_of(root, channel)) for channel in channels}
    unused = [name for name in names if name.startswith("catalogs/") and name not in used]
    return [name[len("catalogs/") : -len(".json")].replace("-", ":", 1) for name in unused]


async def _point(root: DocumentWriter, digest: str, channel: str, keys: Sequence[PrivateKey]) -> Pointer:
    pointer = Pointer(channel=channel, serial=await _serial(root, channel) + 1, catalog=digest)
    await _write(root, pointer, keys)
    return pointer


async def _serial(root: DocumentReader, channel: str) -> int:
    try:
        envelope = await root.read(channel_path(channel), MAX_BYTES)
    except ArtifactError as error:
        if error.code != "artifact_missing":
            raise
        return 0
    return read_pointer(envelope, channel, (), root.where).serial


async def _write(root: DocumentWriter, pointer: Pointer, keys: Sequence[PrivateKey]) -> None:
    envelope = wrap(canonical_json(pointer.model_dump()), POINTER_TYPE, keys)
    await root.write(channel_path(pointer.channel), canonical_json(envelope))

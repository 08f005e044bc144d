"""Where catalogs are published, and which one a channel (`stable`, `canary`) means.

    catalogs/sha256-<hex>.json   a catalog, named by its own digest, never changed
    channels/<name>.json         a signed pointer: channel, serial, catalog digest

A pointer's serial only grows, also when it points back to an older catalog: a rollback is a new pointer, and an
old pointer that somebody replays is recognised.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pareta_registry.canonical import canonical_json
from pareta_registry.catalog import Catalog, Digest, Slug
from pareta_registry.errors import TrustError
from pareta_registry.load import catalog_bytes
from pareta_registry.signing import unwrap, wrap

POINTER_TYPE = "application/vnd.pareta.channel.v1+json"


class Pointer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: Slug
    serial: int = Field(ge=1, strict=True)
    catalog: Digest


def catalog_path(digest: str) -> str:
    return f"catalogs/{digest.replace(':', '-')}.json"


def channel_path(channel: str) -> str:
    return f"channels/{channel}.json"


def read_pointer(envelope: bytes, channel: str, trusted: Sequence[Ed25519PublicKey], where: str) -> Pointer:
    """The pointer of `channel`, its signature checked; TrustError otherwise."""
    payload = unwrap(envelope, POINTER_TYPE, trusted, where)
    try:
        pointer = Pointer.model_validate_json(payload)
    except ValidationError:
        raise TrustError(
            "envelope_invalid", f"{where} holds no channel", "promote the catalog again"
        ) from None
    if pointer.channel != channel:
        raise TrustError(
            "envelope_invalid", f"{where} is the channel {pointer.channel!r}", "ask the right place"
        )
    return pointer


def promote(root: Path, catalog: Catalog, channel: str, keys: Sequence[Ed25519PrivateKey]) -> Pointer:
    """Publishes `catalog` under `root` and points `channel` at it."""
    _write(root / catalog_path(catalog.digest), catalog_bytes(catalog.tasks, catalog.models))
    return retag(root, catalog.digest, channel, keys)


def retag(root: Path, digest: str, channel: str, keys: Sequence[Ed25519PrivateKey]) -> Pointer:
    """Points `channel` at a catalog that is published already: a promotion from another channel, or a rollback."""
    if not (root / catalog_path(digest)).is_file():
        raise TrustError(
            "catalog_missing", f"{root} holds no catalog {digest}", "promote the catalog itself first"
        )
    path = root / channel_path(channel)
    last = read_pointer(path.read_bytes(), channel, (), str(path)).serial if path.exists() else 0
    pointer = Pointer(channel=channel, serial=last + 1, catalog=digest)
    _write(path, wrap(canonical_json(pointer.model_dump()), POINTER_TYPE, keys))
    return pointer


def sign(root: Path, channel: str, keys: Sequence[Ed25519PrivateKey]) -> Pointer:
    """Signs the channel's pointer as it stands."""
    path = root / channel_path(channel)
    if not path.is_file():
        raise TrustError(
            "channel_missing", f"{root} has no channel {channel!r}", "promote a catalog to it first"
        )
    pointer = read_pointer(path.read_bytes(), channel, (), str(path))
    _write(path, wrap(canonical_json(pointer.model_dump()), POINTER_TYPE, keys))
    return pointer


def unused_catalogs(root: Path) -> list[Path]:
    """Published catalogs that no channel points at."""
    used = {
        read_pointer(path.read_bytes(), path.stem, (), str(path)).catalog.replace(":", "-")
        for path in sorted((root / "channels").glob("*.json"))
    }
    return sorted(path for path in (root / "catalogs").glob("sha256-*.json") if path.stem not in used)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)

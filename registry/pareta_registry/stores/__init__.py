"""Artifact stores: open the store of an artifact's source, by the source's scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pareta_registry.errors import ArtifactError
from pareta_registry.stores.base import Store, StoreEntry
from pareta_registry.stores.file import FileStore
from pareta_registry.stores.settings import StoreSettings

__all__ = ["FileStore", "Store", "StoreEntry", "StoreSettings", "open_store"]


def open_store(source: str, settings: StoreSettings | None = None) -> Store:
    """The store of an artifact's source; ArtifactError `source_unsupported` for an unknown scheme."""
    scheme = urlsplit(source).scheme
    opener = _OPENERS.get(scheme)
    if opener is None:
        raise ArtifactError(
            "source_unsupported",
            f"no store reads {scheme or 'a source without a scheme'!r}",
            f"use one of {', '.join(f'{name}://' for name in _OPENERS)}",
        )
    return opener(source, settings or StoreSettings())


def _file(source: str, _: StoreSettings) -> Store:
    parts = urlsplit(source)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute():
        raise ArtifactError("source_invalid", f"{source} is not an absolute path", "write file:///folder")
    return FileStore(path)


def _oci(source: str, settings: StoreSettings) -> Store:
    from pareta_registry.stores.oci import OciStore

    return OciStore(source, settings)


def _hf(source: str, settings: StoreSettings) -> Store:
    from pareta_registry.stores.hf import HfStore

    return HfStore(source, settings)


def _bucket(source: str, settings: StoreSettings) -> Store:
    from pareta_registry.stores.bucket import BucketStore

    return BucketStore(source, settings)


# Imported on first use: a node with one kind of store does not load the libraries of other kinds.
_OPENERS: Mapping[str, Callable[[str, StoreSettings], Store]] = {
    "file": _file,
    "oci": _oci,
    "hf": _hf,
    "s3": _bucket,
    "gs": _bucket,
    "az": _bucket,
}

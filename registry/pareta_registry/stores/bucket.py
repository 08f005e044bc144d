"""Bucket store: reads an artifact under a prefix of a bucket: `s3://`, `gs://` or `az://`, through obstore."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from pareta_registry.errors import ArtifactError
from pareta_registry.stores.base import Piece, StoreEntry, signature_beside
from pareta_registry.stores.settings import StoreSettings

_PIECE_BYTES = 1 << 20


class BucketStore:
    """Retries belong to the fetch, so obstore's own are few."""

    keeps_hashes = False

    def __init__(self, source: str, settings: StoreSettings) -> None:
        self.where = source
        options: Any = _options(settings.object_store_file)
        self._has_options = bool(options)
        client: Any = {"connect_timeout": timedelta(seconds=settings.connect_timeout_s)}
        if options.pop("allow_http", False) or any(_is_plain(*option) for option in options.items()):
            client["allow_http"] = True
        retry: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=settings.answer_timeout_s)}
        with self._errors(""):
            self._store: Any = from_url(source, config=options, client_options=client, retry_config=retry)

    async def list(self) -> tuple[StoreEntry, ...]:
        with self._errors(""):
            found = [
                StoreEntry(str(item["path"]), int(item["size"]))
                async for batch in obstore.list(self._store)
                for item in batch
            ]
        return tuple(sorted(found, key=lambda entry: entry.path))

    async def stat(self, path: str) -> StoreEntry:
        with self._errors(path):
            found = await obstore.head_async(self._store, path)
        return StoreEntry(path, int(found["size"]))

    async def read(self, path: str, start: int, stop: int) -> AsyncGenerator[Piece]:
        with self._errors(path):
            answer = await obstore.get_async(self._store, path, options={"range": (start, stop)})
            if tuple(answer.range) != (start, stop):
                raise ArtifactError(
                    "range_refused",
                    f"{self.where} did not send bytes {start} to {stop} of {path}: the file is shorter than declared",
                    "publish the artifact again",
                )
            async for piece in answer.stream(min_chunk_size=_PIECE_BYTES):
                yield memoryview(piece)

    async def write(self, path: str, data: bytes | Path) -> None:
        """Stores the object whole; replaces an earlier object."""
        with self._errors(path):
            await obstore.put_async(self._store, path, data)

    async def signature(self) -> bytes | None:
        return await signature_beside(self)

    def local_path(self, _path: str, /) -> Path | None:
        return None

    async def close(self) -> None:
        """Without effect: obstore holds no session."""

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except (NotFoundError, FileNotFoundError):
            raise ArtifactError(
                "artifact_missing",
                f"{self.where} has no {path}",
                "publish the artifact, or correct its source",
            ) from None
        except (PermissionDeniedError, UnauthenticatedError, PermissionError):
            raise ArtifactError(
                "forbidden",
                f"{self.where} refuses access to {path} to this host",
                "check `object_store_file`",
            ) from None
        except (BaseError, ValueError, OSError) as error:
            raise ArtifactError(
                "store_unreachable",
                f"{self.where} cannot be read: {str(error).splitlines()[0]}",
                "check the endpoint, the region and the network"
                if self._has_options
                else "set endpoint, region and credentials in `object_store_file`",
                retryable=True,
            ) from None


def _is_plain(name: str, value: object) -> bool:
    return name.endswith("endpoint") and str(value).startswith("http://")


def _options(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        options = json.loads(path.read_bytes())
    except (OSError, ValueError):
        options = None
    if not isinstance(options, dict):
        raise ArtifactError(
            "credentials_unreadable",
            f"{path} holds no readable options",
            "write a JSON object of obstore's options",
        )
    return options

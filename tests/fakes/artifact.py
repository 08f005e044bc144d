"""Artifacts of random bytes in a directory, and a store that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from pareta_registry.artifacts.build import build_manifest
from pareta_registry.artifacts.manifest import MANIFEST_NAME
from pareta_registry.catalog import Variant
from pareta_registry.errors import ArtifactError
from pareta_registry.stores import StoreEntry


def random_files(sizes: Mapping[str, int], seed: int = 1) -> dict[str, bytes]:
    return {name: random.Random(f"{seed}{name}").randbytes(size) for name, size in sizes.items()}


def write_artifact(root: Path, files: Mapping[str, bytes]) -> Variant:
    """Writes files and manifest into `root`; returns the variant that a catalog would hold."""
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    manifest = build_manifest(root)
    (root / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return Variant(
        name="bf16",
        quant="none",
        artifact=manifest.digest,
        source=root.as_uri(),
        weights_bytes=max(1, manifest.total_bytes),
    )


class ScriptedStore:
    """Serves `files` in small pieces; `script(path, start, nth read)` returns "ok" or what to do wrong."""

    where = "scripted://store"
    keeps_hashes = False

    def __init__(
        self,
        files: Mapping[str, bytes],
        script: Callable[[str, int, int], str] = lambda _path, _start, _nth: "ok",
        piece_bytes: int = 1000,
    ) -> None:
        self.files = dict(files)
        self.reads: list[tuple[str, int, int]] = []
        self._script = script
        self._piece_bytes = piece_bytes

    async def list(self) -> tuple[StoreEntry, ...]:
        return tuple(StoreEntry(path, len(data)) for path, data in sorted(self.files.items()))

    async def stat(self, path: str) -> StoreEntry:
        return StoreEntry(path, len(self.files[path]))

    async def read(self, path: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        self.reads.append((path, start, stop))
        deed = self._script(path, start, len(self.reads))
        data = self.files[path][start:stop]
        if deed == "refuse":
            raise ArtifactError("unauthorized", "no", "log in")
        if deed == "busy":
            raise ArtifactError("busy", "later", "wait", retryable=True, retry_after_s=7)
        if deed == "long":
            data += b"more"
        if deed == "flip":
            data = bytes([data[0] ^ 1]) + data[1:]
        if deed in ("truncate", "stall"):
            data = data[: len(data) // 2]
        for offset in range(0, len(data), self._piece_bytes):
            yield data[offset : offset + self._piece_bytes]
        if deed == "stall":
            await asyncio.Event().wait()

    async def signature(self) -> bytes | None:
        return self.files.get("model.sig")

    def local_path(self, _path: str, /) -> Path | None:
        return None

    async def close(self) -> None: ...

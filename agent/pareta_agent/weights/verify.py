"""Artifact verification: compares a directory with its digest, by file sizes (cheap) or by every byte."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.weights.fetch_progress import Meter
from pareta_agent.weights.settings import OnProgress
from pareta_agent.weights.transfer import hash_range
from pareta_registry.artifacts.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, parse_manifest
from pareta_registry.errors import ArtifactError, RegistryFailure
from pareta_registry.signing.keys import PublicKey
from pareta_registry.signing.model_signature import check_signature

_STEP_BYTES = 64 << 20


def is_complete(root: Path, digest: str) -> bool:
    """True if every file of the manifest exists with its size, and the manifest has the digest `digest`.

    OSError for an unreadable directory.
    """
    try:
        manifest = _manifest(root, digest)
        return all((root / file.path).stat().st_size == file.size_bytes for file in manifest.files)
    except (FileNotFoundError, ArtifactError):
        return False


def is_signed(root: Path, trusted: Sequence[PublicKey]) -> bool:
    """True if a key of `trusted` signed the files of the manifest in `root`, or if `trusted` is empty."""
    path = root / SIGNATURE_NAME
    try:
        manifest = parse_manifest((root / MANIFEST_NAME).read_bytes(), str(root))
        check_signature(path.read_bytes() if path.is_file() else None, manifest, trusted, str(root))
    except (FileNotFoundError, RegistryFailure):
        return False
    return True


async def verify_artifact(root: Path, digest: str, clock: Clock, progress: OnProgress) -> None:
    """ArtifactError `digest_mismatch` or `artifact_missing` unless every byte is as published."""
    try:
        manifest = await asyncio.to_thread(_manifest, root, digest)
    except FileNotFoundError:
        raise ArtifactError(
            "artifact_missing", f"{root} holds no artifact", "pull the artifact first"
        ) from None
    meter = Meter(manifest.total_bytes, clock, progress)
    meter.fetched(manifest.total_bytes)
    for file in manifest.files:
        found = hashlib.sha256()
        path = root / file.path
        for start in range(0, file.size_bytes, _STEP_BYTES):
            stop = min(start + _STEP_BYTES, file.size_bytes)
            await asyncio.to_thread(hash_range, path, start, stop, found.update)
            meter.hashed(stop - start)
        if found.hexdigest() != file.sha256 or path.stat().st_size != file.size_bytes:
            raise ArtifactError(
                "digest_mismatch",
                f"{path} does not match its manifest (sha256 {file.sha256})",
                f"remove {root} and pull the artifact again; check the health of that disk",
            )


def _manifest(root: Path, digest: str) -> Manifest:
    manifest = parse_manifest((root / MANIFEST_NAME).read_bytes(), str(root))
    if manifest.digest != digest:
        raise ArtifactError(
            "digest_mismatch",
            f"the manifest in {root} is another artifact's",
            f"remove {root} and pull the artifact again",
        )
    return manifest

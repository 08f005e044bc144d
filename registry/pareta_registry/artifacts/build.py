"""Manifest builder: hashes a directory of checkpoint files into a manifest, for an import or a publication."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from pareta_registry.artifacts.manifest import BESIDE, ArtifactFile, Manifest, path_refusal
from pareta_registry.errors import ArtifactError


def build_manifest(root: Path, *, code: bool = False) -> Manifest:
    """Hashes every file under `root`. ArtifactError for a file that an artifact must not contain.

    With `code`, a model's own Python is allowed.
    """
    files = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise _refused(root, f"{name} is a link")
        if path.is_dir() or name in BESIDE:
            continue
        if reason := path_refusal(name, code=code):
            raise _refused(root, reason)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append(ArtifactFile(path=name, sha256=digest, size_bytes=path.stat().st_size))
        except ValidationError as error:
            raise _refused(root, error.errors(include_url=False)[0]["msg"]) from None
    if not files:
        raise _refused(root, "the directory holds no files")
    try:
        return Manifest(files=tuple(files))
    except ValidationError as error:
        raise _refused(root, error.errors(include_url=False)[0]["msg"]) from None


def _refused(root: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        "artifact_refused",
        f"{root} is no artifact: {reason}",
        "keep safetensors, tokenizer and text files only",
    )

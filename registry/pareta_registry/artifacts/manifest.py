"""Manifest: lists an artifact's files with size and sha256. The manifest's digest is the artifact's name.

The digest covers the files alone, so an artifact has the same name in a directory, a bucket and an OCI registry.
Refuses every path or format beyond tensors, text and tokens.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from pareta_registry.documents.canonical import canonical_json, sha256_digest
from pareta_registry.errors import ArtifactError

MANIFEST_NAME = "pareta-manifest.json"
SIGNATURE_NAME = "model.sig"
BESIDE = (MANIFEST_NAME, SIGNATURE_NAME)
"""Files beside an artifact's own: the manifest and the signature."""
MAX_MANIFEST_BYTES = 4 << 20
SUFFIXES = (".safetensors", ".json", ".txt", ".jinja", ".model", ".tiktoken", ".md")
_CODE_SUFFIX = ".py"
_BARE_NAMES = ("LICENSE", "NOTICE")

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ArtifactFile(BaseModel):
    """`path` is relative and POSIX, `sha256` 64 hex digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: Hex
    size_bytes: int = Field(ge=0, lt=1 << 50, strict=True)

    @field_validator("path")
    @classmethod
    def _is_safe(cls, path: str) -> str:
        reason = path_refusal(path, code=True)
        if reason:
            raise ValueError(reason)
        return path


class Manifest(BaseModel):
    """Files sorted by path, without duplicates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[ArtifactFile, ...] = Field(min_length=1, max_length=10_000)

    @field_validator("files")
    @classmethod
    def _is_ordered(cls, files: tuple[ArtifactFile, ...]) -> tuple[ArtifactFile, ...]:
        paths = [file.path for file in files]
        if len({path.casefold() for path in paths}) != len(paths):
            raise ValueError("a path is listed twice")
        parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        if parents & set(paths):
            raise ValueError("a path is both a file and a folder")
        return tuple(sorted(files, key=lambda file: file.path))

    @property
    def digest(self) -> str:
        """`sha256:…` over the canonical JSON: the `artifact` of a catalog's variant."""
        return sha256_digest(self.to_bytes())

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def code(self) -> tuple[str, ...]:
        """Files that an engine would run: such an artifact requires trust."""
        return tuple(file.path for file in self.files if file.path.endswith(_CODE_SUFFIX))

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))


def path_refusal(path: str, *, code: bool = False) -> str | None:
    """The reason for which an artifact must not contain a file of this name; None for an allowed name.

    With `code`, a model's own Python is allowed.
    """
    parts = path.split("/")
    if not path or len(path) > 255 or not path.isprintable() or "\\" in path or ":" in path:
        return f"{path!r} is not a plain relative path"
    if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        return f"{path!r} leaves the artifact or hides in it"
    name = parts[-1]
    if path in BESIDE:
        return f"{path} lies beside an artifact, not in the artifact"
    allowed = (*SUFFIXES, _CODE_SUFFIX) if code else SUFFIXES
    if name not in _BARE_NAMES and PurePosixPath(name).suffix not in allowed:
        return f"{path!r} is not safetensors, tokenizer or text (executable formats are refused)"
    return None


def parse_manifest(data: bytes, where: str) -> Manifest:
    """A manifest from received bytes; `where` names the sender in the ArtifactError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise _invalid(where, f"larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        return Manifest.model_validate(json.loads(data))
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        raise _invalid(where, f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from None
    except (ValueError, RecursionError):
        raise _invalid(where, "not JSON") from None


def _invalid(where: str, reason: str) -> ArtifactError:
    return ArtifactError(
        "manifest_invalid",
        f"the artifact manifest at {where} is refused: {reason}",
        "publish the artifact again with `pareta-registry import`",
    )

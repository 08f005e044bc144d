"""Registry errors: carry a code, a message and a remedy.

RegistryFailure
├── CatalogError    invalid documents, every problem with file, line and key
├── ArtifactError   bytes that are missing, altered, refused or unreachable
└── TrustError      no trusted signature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogProblem:
    """A problem of a document. `line` counts from 1 (0: the whole file), `key` is dotted, `remedy` is the
    correction.
    """

    file: str
    line: int
    key: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        head = f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"
        return f"{head}; {self.remedy}" if self.remedy else head


class RegistryFailure(Exception):
    """`code` is stable; `remedy` is an imperative sentence or empty."""

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f"\n  try: {self.remedy}" if self.remedy else "")


class CatalogError(RegistryFailure):
    """Every problem of a catalog, in file and line order."""

    def __init__(self, problems: Sequence[CatalogProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.key)))
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(
            "catalog_invalid",
            f"the catalog has {count} problem{'s' if count != 1 else ''}:\n{lines}",
            "correct the lines above and run `pareta-registry check DIR`",
        )


class ArtifactError(RegistryFailure):
    """`retryable`: the same request may succeed later. `retry_after_s`: the store's delay, if named."""

    def __init__(
        self,
        code: str,
        message: str,
        remedy: str = "",
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, remedy)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class TrustError(RegistryFailure):
    """Never retryable: the same bytes stay refused."""


def unreadable(what: str, error: OSError) -> ArtifactError:
    """The error for a file or folder that the host refuses to read; `what` names the path."""
    return ArtifactError(
        "artifact_unreadable",
        f"{what} cannot be read: {error.strerror or error}",
        "check the owner, the permissions and the disk",
    )

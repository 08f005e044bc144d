"""The registry's failures in the agent's words: every message names the artifact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pareta_agent.errors import RegistryError
from pareta_registry.errors import ArtifactError, TrustError


def short(digest: str) -> str:
    """Enough of a digest to recognise it."""
    return digest[:19]


@contextmanager
def registry_errors(digest: str) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, TrustError) as error:
        raise RegistryError(error.code, f"artifact {short(digest)}: {error.message}", error.remedy) from error

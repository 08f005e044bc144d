"""Error translation: converts the registry's failures into the agent's errors, each with the artifact's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pareta_agent.errors import RegistryError
from pareta_registry.errors import ArtifactError, TrustError


def short(digest: str) -> str:
    """The first 19 characters of a digest, enough to recognise the artifact."""
    return digest[:19]


@contextmanager
def registry_errors(digest: str) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, TrustError) as error:
        raise RegistryError(error.code, f"artifact {short(digest)}: {error.message}", error.remedy) from error

"""Credentials: reads the file that docker, podman and oras share. Never logged, never in a message."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path

from pareta_registry.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The Authorization header's value."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def docker_credentials(path: Path | None, host: str) -> Credentials | None:
    """The credentials of `path` for `host` (with its port), None for none; ArtifactError for a broken file."""
    if path is None:
        return None
    try:
        document = json.loads(path.read_bytes())
        auths = document.get("auths", {})
        entry = next(
            (auths[name] for name in (host, f"https://{host}", f"http://{host}") if name in auths), None
        )
        if entry is None:
            return None
        if "auth" not in entry:
            return Credentials(str(entry["username"]), str(entry["password"]))
        user, separator, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, binascii.Error):
        separator = ""
    if not separator:
        raise ArtifactError(
            "credentials_unreadable",
            f"{path} holds no readable credentials for {host}",
            f"log in again with `skopeo login {host}` or `docker login {host}`",
        )
    return Credentials(user, password)

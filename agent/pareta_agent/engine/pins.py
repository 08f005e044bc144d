"""The committed requirement files: which engines can be installed, and which packages each consists of."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pareta_agent.engine.vllm import versions
from pareta_agent.errors import HostError

Platform = Literal["cpu", "cuda"]
_DIRECTORY = Path(__file__).with_name("requirements")


@dataclass(frozen=True, slots=True)
class Pins:
    """One engine that can be installed. `digest` also covers the Python that its wheels are chosen for."""

    platform: Platform
    version: str
    path: Path
    packages: tuple[str, ...]
    digest: str

    @property
    def name(self) -> str:
        return f"{self.platform}-{self.version}-{self.digest[:12]}"


def committed(directory: Path = _DIRECTORY) -> list[Pins]:
    """All of them, the newest version of a platform first."""
    found = [_read(path) for path in directory.glob("*-*.txt")]
    return sorted(found, key=lambda pins: (pins.platform, versions.parse(pins.version)), reverse=True)


def choose(platform: Platform, version: str | None, directory: Path = _DIRECTORY) -> Pins:
    """The newest of the platform, or that version. Raises HostError(`engine_version_unknown`)."""
    offered = [pins for pins in committed(directory) if pins.platform == platform]
    for pins in offered:
        if version in (None, pins.version):
            return pins
    raise HostError(
        "engine_version_unknown",
        f"no pinned {platform} engine {version or ''}".rstrip(),
        f"choose one of: {', '.join(pins.version for pins in offered) or 'none'}",
    )


def _read(path: Path) -> Pins:
    platform, _, version = path.stem.partition("-")
    text = path.read_text()
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(f"{python}\n{text}".encode()).hexdigest()
    return Pins(platform, version, path, tuple(line for line in lines if line), digest)  # type: ignore[arg-type]

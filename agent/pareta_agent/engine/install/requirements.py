"""Engine requirements: reads the committed requirement files, a file for each installable engine."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pareta_agent.engine.vllm import versions
from pareta_agent.errors import HostError

Platform = Literal["cpu", "cuda"]
OWN_SERIES = f"{sys.version_info.major}.{sys.version_info.minor}"
_CPU_TORCH = re.compile(r"^(torch==[^+\s]+)\+cpu\b", re.MULTILINE)
_DIRECTORY = Path(__file__).with_name("pinned")


@dataclass(frozen=True, slots=True)
class EngineRequirements:
    """An installable engine: `text` is the requirements file, `series` the Python of the wheels."""

    platform: Platform
    version: str
    text: str
    series: str

    @property
    def packages(self) -> tuple[str, ...]:
        """`name==version` for each package."""
        lines = (line.split("#")[0].strip() for line in self.text.splitlines())
        return tuple(line for line in lines if line)

    @property
    def name(self) -> str:
        """The directory's name: another Python or another package is another engine."""
        digest = hashlib.sha256(f"{self.series}\n{self.text}".encode()).hexdigest()
        return f"{self.platform}-{self.version}-{digest[:12]}"

    @property
    def torch(self) -> str:
        """torch's pin, empty where absent."""
        return next((pin for pin in self.packages if pin.startswith("torch==")), "")

    def of(self, series: str) -> EngineRequirements:
        """The same packages for another Python."""
        return replace(self, series=series)

    def with_plain_torch(self) -> EngineRequirements:
        """The same torch as PyPI serves, for when the CPU build is not served. `self` where torch is not pinned."""
        return replace(self, text=_CPU_TORCH.sub(r"\1", self.text))


def committed(directory: Path = _DIRECTORY) -> list[EngineRequirements]:
    """All requirements, the newest version of a platform first."""
    found = [_read(path) for path in directory.glob("*-*.txt")]
    return sorted(found, key=lambda pins: (pins.platform, versions.parse(pins.version)), reverse=True)


def choose(platform: Platform, version: str | None, directory: Path = _DIRECTORY) -> EngineRequirements:
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


def _read(path: Path) -> EngineRequirements:
    platform, _, version = path.stem.partition("-")
    return EngineRequirements(platform, version, path.read_text(), OWN_SERIES)  # type: ignore[arg-type]

"""Store layout: names the paths inside the weights root. Pure.

<root>/sha256-<hex>/           a verified artifact with its manifest, never changed again
<root>/sha256-<hex>.partial/   a fetch under way or interrupted
<root>/sha256-<hex>.journal    the finished parts of that fetch
<root>/sha256-<hex>.lock       flock: exclusive to fetch or remove, shared while in use; its mtime is the last use
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StorePaths:
    root: Path

    def artifact(self, digest: str) -> Path:
        return self.root / digest.replace(":", "-")

    def partial(self, digest: str) -> Path:
        return self.root / (digest.replace(":", "-") + ".partial")

    def journal(self, digest: str) -> Path:
        return self.root / (digest.replace(":", "-") + ".journal")

    def lock(self, digest: str) -> Path:
        return self.root / (digest.replace(":", "-") + ".lock")

    def digests(self) -> list[str]:
        """The artifacts in the store, oldest use first."""
        return [digest for digest in self.removable() if self.artifact(digest).is_dir()]

    def removable(self) -> list[str]:
        """Everything that takes space, oldest use first: artifacts, and the leftovers of interrupted fetches."""
        locks = sorted(self.root.glob("sha256-*.lock"), key=lambda lock: lock.stat().st_mtime_ns)
        digests = [lock.stem.replace("-", ":", 1) for lock in locks]
        return [d for d in digests if self.artifact(d).is_dir() or self.partial(d).is_dir()]

"""Pip output: maps pip's lines to progress, and to errors that a person can act on. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from pareta_agent.errors import HostError

_COLLECTING = re.compile(r"^(?:Collecting|Processing|Requirement already satisfied:) (\S+)")
_MISSING = re.compile(r"No matching distribution found for (\S+)|Cannot install (\S+) because")
_CONSTRAINT = re.compile(r"The user requested \(constraint\) (\S+)")
_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Max retries exceeded|Connection (?:refused|reset)|ReadTimeout"
)


class PipProgress:
    """Counts packages by pip's output; calls `tell(done, what)` for each."""

    def __init__(self, total: int, tell: Callable[[int, str], None]) -> None:
        self._total = total
        self._tell = tell
        self._seen: set[str] = set()

    def line(self, line: str) -> None:
        if found := _COLLECTING.match(line):
            self._seen.add(found[1])
            self.say(found[1])
        elif line.startswith("Installing collected packages"):
            self._tell(self._total, "unpacking")

    def say(self, what: str) -> None:
        self._tell(min(len(self._seen), self._total), what)


def missing_package(output: str) -> str | None:
    """The requirement for which pip found nothing; with a constraint, pip reports a conflict."""
    found = _MISSING.search(output)
    return (found[1] or found[2]) if found else None


def is_network(output: str) -> bool:
    return _NETWORK.search(output) is not None


def explain(output: str, what: str) -> HostError:
    """The error behind pip's (or venv's) output, most telling first."""
    if "No space left on device" in output or "Errno 28" in output:
        return HostError(
            "disk_full",
            f"{what}: the disk is full",
            "free some space and run it again; it goes on where it was",
        )
    if is_network(output):
        return HostError(
            "no_network",
            f"{what}: the package index cannot be reached",
            "check the network, the proxy, or pip's index-url",
        )
    missing = missing_package(output)
    if missing and (constraint := _CONSTRAINT.search(output)):
        return HostError(
            "engine_package_missing",
            f"{what}: pip's own constraint {constraint[1]} leaves no {missing}",
            "remove the constraint (`pip config list` and PIP_CONSTRAINT show it)",
        )
    if missing:
        return HostError(
            "engine_package_missing",
            f"{what}: the package index has no {missing} for this Python and machine",
            "use an index that has it (pip config set global.index-url …)",
        )
    if "Permission denied" in output:
        return HostError(
            "engine_install_failed", f"{what}: permission denied", "set PARETA_CACHE to a directory of yours"
        )
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    return HostError(
        "engine_install_failed", f"{what}: {last.strip()}", "run it again; it goes on where it was"
    )

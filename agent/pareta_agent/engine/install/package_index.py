"""Package index: lists the versions of a package that the index serves for a Python. Fetches no package."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pareta_agent import processes
from pareta_agent.engine.install.pip_output import explain, is_network
from pareta_agent.errors import HostError

_TIMEOUT_S = 120.0
_VERSIONS = re.compile(r"\(from versions: ([^)]*)\)")
_PLACES = re.compile(r"^Looking in (?:indexes|links): (.*)$", re.MULTILINE)
_DEFAULT_PLACE = "https://pypi.org/simple"
_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--pre", "--no-input", "--retries", "1", "--timeout", "30")


@dataclass(frozen=True, slots=True)
class IndexedVersions:
    """`versions` have a wheel for that Python and this machine; `places` are shown without passwords."""

    versions: frozenset[str]
    places: str


class Index:
    """pip's own index, by pip's settings, queried through the pip of `python`; each query is sent once.

    `cpu_torch` is the additional index that serves the CPU builds of torch.
    """

    def __init__(self, python: Path, cpu_torch: str) -> None:
        self._python = python
        self.cpu_torch = cpu_torch
        self._known: dict[tuple[str, str, str | None], IndexedVersions] = {}

    async def served(self, name: str, series: str, extra_index: str | None = None) -> IndexedVersions:
        """Versions that are served. Raises HostError `no_network` when no index could be queried."""
        key = (name, series, extra_index)
        if key not in self._known:
            self._known[key] = await self._ask(*key)
        return self._known[key]

    async def _ask(self, name: str, series: str, extra_index: str | None) -> IndexedVersions:
        # No version meets this requirement: pip refuses and lists all versions, without fetching anything.
        argv = [str(self._python), "-m", "pip", "download", *_OPTIONS, "--python-version", series]
        argv += ["--extra-index-url", extra_index] if extra_index else []
        # A constraint on the package would replace the list by a conflict; an empty variable leaves a file's in force.
        env = processes.environment({"PIP_CONSTRAINT": os.devnull})
        try:
            done = await processes.run([*argv, f"{name}>1,<1"], env=env, timeout_s=_TIMEOUT_S)
        except TimeoutError:
            raise HostError(
                "no_network",
                f"the package index did not answer within {_TIMEOUT_S:.0f} s",
                "check the network, the proxy, or pip's index-url",
            ) from None
        listed = _VERSIONS.search(done.output)
        versions = {word.strip() for word in listed[1].split(",")} - {"none", ""} if listed else set()
        if not versions and extra_index is None and (listed is None or is_network(done.output)):
            raise explain(done.output, "the package index could not be asked")
        return IndexedVersions(frozenset(versions), ", ".join(_PLACES.findall(done.output)) or _DEFAULT_PLACE)

"""Python interpreters: finds the interpreters of this host from which an engine's virtual environment can be made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pareta_agent import processes

SERIES = ("3.11", "3.12", "3.13", "3.14")
"""Those that vLLM's builds are made for."""
_TIMEOUT_S = 30.0
_ASK = """
import importlib.util as u, json, sys, sysconfig
print(json.dumps({
    "path": sys.executable,
    "series": "%d.%d" % sys.version_info[:2],
    "usable": sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
    and all(u.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


@dataclass(frozen=True, slots=True)
class Python:
    """`series` is e.g. `3.12`, and selects the wheels."""

    path: Path
    series: str


async def find(own: Path) -> tuple[Python, ...]:
    """`own` first, then the first of each series on PATH, if able to run and to make environments."""
    found: dict[str, Python] = {}
    for path in (own, *_on_path()):
        if path == own or path.name.removeprefix("python") not in found:
            python = await _asked(path)
            if python is not None:
                found.setdefault(python.series, python)
    return tuple(found.values())


def _on_path() -> Iterator[Path]:
    """Every candidate: the first of a name may be a pyenv shim without an interpreter."""
    folders = [Path(folder) for folder in os.get_exec_path(processes.environment())]
    for series in SERIES:
        for folder in folders:
            path = folder / f"python{series}"
            if path.is_file() and os.access(path, os.X_OK):
                yield path


async def _asked(path: Path) -> Python | None:
    try:
        done = await processes.run([str(path), "-I", "-c", _ASK], timeout_s=_TIMEOUT_S)
        answer = json.loads(done.output.splitlines()[-1]) if done.returncode == 0 else {}
        return Python(Path(answer["path"]), answer["series"]) if answer["usable"] else None
    except (TimeoutError, OSError, ValueError, LookupError, TypeError):
        return None

"""The Pythons of this machine, on PATH or under pyenv, beside the one that runs the tests."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
SERIES = tuple(f"3.{minor}" for minor in range(11, 15))
_ASK = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


@cache
def others() -> dict[str, Path]:
    """By series, one each."""
    places = [*Path("/usr/bin").glob("python3.1?"), *Path("/usr/local/bin").glob("python3.1?")]
    places += Path.home().glob(".pyenv/versions/*/bin/python3.1?")
    found: dict[str, Path] = {}
    for path in sorted(places):
        done = subprocess.run([path, "-c", _ASK], capture_output=True, text=True)
        series = done.stdout.strip()
        if done.returncode == 0 and series in SERIES and series != OWN:
            found.setdefault(series, path)
    return found

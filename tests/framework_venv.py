"""The interpreter with the field's agent frameworks, made once from `clients/requirements.txt` into the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent / "clients" / "requirements.txt"
_PIP = [
    "install",
    "--quiet",
    "--no-deps",
    "--only-binary",
    ":all:",
    "--disable-pip-version-check",
    "--requirement",
]


def interpreter() -> Path:
    """Raises CalledProcessError with pip's words where they cannot be had."""
    cache = Path(os.environ.get("PARETA_CACHE") or Path.home() / ".cache" / "pareta")
    digest = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    target = cache / "clients" / digest
    target.parent.mkdir(parents=True, exist_ok=True)
    python, done = target / "bin" / "python", target / "complete"
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", target], check=True, capture_output=True)
            subprocess.run([python, "-m", "pip", *_PIP, PINS], check=True, capture_output=True, text=True)
            done.touch()
    return python

"""Runs the unit tests under every other Python of this machine, side by side, and prints which were seen.

`make pythons`. Each gets an environment under `.venv/pythons`, made by uv. The demo model's import is left out: it
computes for long, and the same everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fakes.pythons import OWN, others

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv" / "pythons"
TESTS = ("tests/unit", "--deselect", "tests/unit/agent/weights/test_demo.py", "-m", "not slow and not engine")
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *TESTS)


def make(series: str, python: Path) -> Path:
    """An environment with the working tree and its test tools; what is there already is kept."""
    uv = Path(sys.executable).with_name("uv")
    environment = ENVIRONMENTS / series
    if not (environment / "bin" / "python").exists():
        subprocess.run(
            [uv, "venv", "--quiet", "--seed", "--clear", "--python", python, environment], check=True
        )
    made = environment / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", made, "--editable", ".[dev]"], cwd=ROOT, check=True
    )
    return made


def start(python: Path, log: Path) -> subprocess.Popen[bytes]:
    env = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    with log.open("wb") as out:
        return subprocess.Popen([python, *PYTEST], cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)


def main() -> int:
    made = {series: make(series, python) for series, python in sorted(others().items())}
    with tempfile.TemporaryDirectory() as logs:
        log = {series: Path(logs, series) for series in made}
        runs = {series: start(python, log[series]) for series, python in made.items()}
        failed = [series for series, run in runs.items() if run.wait() != 0]
        for series in failed:
            print(f"--- Python {series}\n{log[series].read_text()[-20_000:]}")
    seen = ", ".join([OWN, *made])
    print(f"Pythons seen: {seen}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

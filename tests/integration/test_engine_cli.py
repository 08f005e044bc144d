"""`pareta-agent engine`: what is there, what could be, and refusals with exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def engine(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PARETA_CACHE": str(tmp_path), "PARETA_HOME": str(tmp_path / "home")}
    argv = [sys.executable, "-m", "pareta_agent", "engine", *args]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)


def test_ls_shows_what_could_be_installed(tmp_path: Path) -> None:
    """One JSON object a line, an unfinished one among them."""
    (tmp_path / "engines" / "cpu-0.31.0-abc").mkdir(parents=True)
    rows = [json.loads(line) for line in engine(tmp_path, "ls", "--json").stdout.splitlines()]
    assert {(row["platform"], row["version"], row["state"]) for row in rows} == {
        ("cpu", "0.31.0", "unfinished"),
        ("cpu", "0.32.0", "available"),
        ("cuda", "0.33.0", "available"),
    }


def test_unknown_version_exits_4_and_names_the_known(tmp_path: Path) -> None:
    """A host error with its remedy on standard error, nothing on standard output."""
    done = engine(tmp_path, "install", "--cpu", "--version", "0.1.0")
    assert (done.returncode, done.stdout) == (4, "")
    assert "choose one of: 0.32.0" in done.stderr


def test_two_platforms_at_once_exit_2(tmp_path: Path) -> None:
    """A usage error."""
    assert engine(tmp_path, "install", "--cpu", "--cuda").returncode == 2

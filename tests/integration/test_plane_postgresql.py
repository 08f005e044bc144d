"""`plane serve` on PostgreSQL: the operator's commands and a node's records end in the same database."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import AGENT, environment

pytestmark = pytest.mark.slow


def test_a_plane_by_itself_keeps_everything_in_postgresql(postgres: Any, tmp_path: Path) -> None:
    """Orgs and keys made beside the running plane are there, and nothing is in SQLite."""
    env = environment(tmp_path, PARETA_PLANE_DATABASE=postgres.database())

    def command(*argv: str) -> str:
        done = subprocess.run([*AGENT, *argv], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    argv = [*AGENT, "plane", "serve", "--port", "0"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as plane:
        try:
            assert plane.stdout is not None
            assert json.loads(plane.stdout.readline())["port"] > 0
            command("org", "create", "org_a")
            assert command("org", "topup", "5").strip() == "5.000000"
            made = json.loads(command("keys", "create", "--concurrency", "2", "--json"))
            [listed] = [json.loads(line) for line in command("keys", "ls", "--json").splitlines()]
        finally:
            plane.terminate()
    assert (listed["id"], listed["limits"]["concurrency"]) == (made["id"], 2)
    assert not (tmp_path / "plane" / "plane.db").exists()

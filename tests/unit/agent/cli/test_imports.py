"""What a command does not load: each start pays for every library that somebody imports for its own convenience."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("pareta_agent.cli.serve, pareta_agent.front.app", {"fastapi", "sqlalchemy", "numpy"}),
        ("pareta_agent.cli.usage, pareta_agent.cli.keys", {"fastapi", "uvicorn", "numpy"}),
        ("pareta_agent.plane.__main__", {"numpy", "rich"}),
    ],
)
def test_a_start_loads_no_library_that_it_does_not_use(modules: str, unwanted: set[str]) -> None:
    """A node no database and no web framework, a look at the ledger no web framework, a plane no arrays."""
    argv = [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert unwanted & set(done.stdout.split()) == set()

"""What a command does not load: each start pays for every library that somebody imports for its own convenience."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("pareta_agent.cli.serve, pareta_agent.gateway.asgi.app", {"fastapi", "sqlalchemy", "numpy"}),
        ("pareta_agent.cli.usage, pareta_agent.cli.keys", {"fastapi", "uvicorn", "numpy"}),
        ("pareta_agent.plane.__main__", {"numpy", "rich", "aiohttp", "pareta_agent.settings"}),
    ],
)
def test_a_start_loads_no_library_that_it_does_not_use(modules: str, unwanted: set[str]) -> None:
    """A node no database and no web framework, a look at the ledger no web framework, a plane no arrays,
    no HTTP client and no settings."""
    argv = [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert unwanted & set(done.stdout.split()) == set()


@pytest.mark.slow
def test_the_collector_is_disabled_for_the_imports_alone() -> None:
    """It runs again once the command is there."""
    program = """import gc, typer, pareta_agent.__main__, pareta_agent.cli
print(gc.isenabled())
typer.main.get_command(pareta_agent.cli.app).get_command(None, "status")
print(gc.isenabled(), gc.get_freeze_count() > 10_000)"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "True", "True"]

"""`pareta-agent doctor` on this machine, with things in its way."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pareta_agent.cli import app

RUNNER = CliRunner()


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The findings by check, and the exit code, under some settings."""

    def run(**settings: str) -> tuple[dict[str, dict[str, str]], int]:
        given = {
            "PARETA_HOME": str(tmp_path / "home"),
            "PARETA_CACHE": str(tmp_path / "cache"),
            "PARETA_PORT": "0",
        }
        for name, value in (given | settings).items():
            monkeypatch.setenv(name, value)
        done = RUNNER.invoke(app, ["doctor", "--json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}, done.exit_code

    return run


def test_a_new_home_is_looked_at_without_making_it(doctor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Every check answers; nothing is left behind."""
    found, _ = doctor()
    assert {
        "nvml",
        "driver",
        "shm",
        "ulimits",
        "disk",
        "port",
        "clock",
        "registry",
        "plane",
        "engine",
        "toolchain",
    } <= set(found)
    assert found["registry"]["level"] == "ok"
    assert found["engine"]["level"] == "warn"
    assert not (tmp_path / "home").exists()


def test_a_taken_port_fails_with_exit_four(doctor) -> None:  # type: ignore[no-untyped-def]
    """Somebody else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found, code = doctor(PARETA_PORT=str(taken.getsockname()[1]))
    assert (found["port"]["level"], code) == ("fail", 4)


def test_a_home_that_is_no_directory_fails(doctor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """As `serve` would find it."""
    (tmp_path / "home").touch()
    found, code = doctor()
    assert (found["disk"]["level"], code) == ("fail", 4)


def test_an_interpreter_without_vllm_fails(doctor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Named, with what to do."""
    found, code = doctor(PARETA_ENGINE_PYTHON=str(tmp_path / "no-python"))
    assert (found["engine"]["level"], code) == ("fail", 4)
    assert "no interpreter" in found["engine"]["message"]


def test_a_broken_catalog_fails(doctor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The registry's own first problem."""
    (tmp_path / "tasks.yaml").write_text("kind: nonsense\n")
    found, code = doctor(PARETA_REGISTRY_CATALOG=str(tmp_path / "tasks.yaml"))
    assert (found["registry"]["level"], code) == ("fail", 4)


def test_a_plane_that_is_away_fails(doctor) -> None:  # type: ignore[no-untyped-def]
    """Refused at once: nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    found, code = doctor(PARETA_PLANE_URL=f"http://127.0.0.1:{port}")
    assert (found["plane"]["level"], code) == ("fail", 4)


def test_a_program_in_vllms_place_is_the_engine(doctor) -> None:  # type: ignore[no-untyped-def]
    """No interpreter is looked for."""
    found, _ = doctor(PARETA_ENGINE_COMMAND="/usr/bin/true")
    assert found["engine"]["level"] == "ok"

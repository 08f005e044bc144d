"""The program that an engine is, and the environment that it finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_room import settings, spec

from pareta_agent.engine.process.invocation import invocation
from pareta_agent.engine.process.run_dir import run_dir_of
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.errors import HostError


def invoked(made: EngineSettings) -> tuple[list[str], list[str], dict[str, str]]:
    where = run_dir_of(made, "ep_x", 0, 1)
    return invocation(spec(), made, where, (), Path("/weights"), None, sleeps=False)


def test_an_interpreters_own_programs_are_found_first(tmp_path: Path) -> None:
    """Libraries that compile start `ninja` by its name, and it is beside the interpreter."""
    program, _, env = invoked(settings(tmp_path, command=None, python=Path("/engine/bin/python")))
    assert program == ["/engine/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert env["PATH"].split(os.pathsep)[0] == "/engine/bin"
    assert env["PATH"].endswith(os.environ["PATH"])


def test_another_program_runs_as_it_is(tmp_path: Path) -> None:
    program, _, env = invoked(settings(tmp_path, command=("/bin/engine", "--quick")))
    assert (program, env["PATH"]) == (["/bin/engine", "--quick"], os.environ["PATH"])


def test_without_either_there_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no engine is installed"):
        invoked(settings(tmp_path, command=None))

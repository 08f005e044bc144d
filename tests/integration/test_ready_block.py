"""What `serve` prints for a person: the Ready block last, and its examples work as they stand."""

import os
import re
import subprocess
import sys
import time

import pytest
from harness import AGENT, environment, fake_engine, processes_of

pytestmark = pytest.mark.slow


@pytest.fixture
def printed(home):
    """Standard output and error of a start, read while the node runs."""
    out, err = home.parent / "out", home.parent / "err"
    env = environment(home, PARETA_ENGINE_COMMAND=fake_engine())
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen([*AGENT, "serve", "--port", "0"], env=env, stdout=stdout, stderr=stderr)
    deadline = time.monotonic() + 120
    while "print(" not in out.read_text() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    yield out.read_text(), err.read_text()
    process.terminate()
    assert process.wait(120) == 0
    assert processes_of(home) == []


def test_the_examples_work_verbatim(printed):
    """The curl line in a shell, the Python lines in an interpreter that has `openai`."""
    out, _ = printed
    curl = out.split("curl:\n\n")[1].split("\n\nPython")[0]
    code = out.split("(pip install openai):\n\n")[1]
    shell = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=120)
    assert "Paris" in shell.stdout, shell.stderr
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    python = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env
    )
    assert "Paris" in python.stdout, python.stderr


def test_standard_output_holds_the_block_and_nothing_else(printed):
    """Phases and problems are talk; off a terminal there is no colour, no bar and no spinner."""
    out, err = printed
    assert re.match(r"\nReady in \d+ s\n", out)
    assert "\x1b" not in out + err
    assert [
        phase for phase in ("resolve", "plan", "fetch", "spawn") if f"✓ ep_contract_kie  {phase}" not in err
    ] == []
    assert [line for line in err.splitlines() if not line.strip()] == []

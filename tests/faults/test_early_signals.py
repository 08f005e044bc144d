"""A signal that comes while a program starts: it ends, whatever it was doing, and leaves nothing.

The moments are drawn by chance, under load; those in which Python itself loses an interrupt are made.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import AGENT, Agent, environment, fake_engine, kill_all, processes_of

pytestmark = pytest.mark.slow
NUMBERS = (signal.SIGINT, signal.SIGTERM)
# Raises a signal where Python prints exceptions and goes on: in a weakref's callback, while a module is imported.
LOSES_IT = """
import signal, sys, weakref

class Once:
    done = False
    def find_spec(self, name, path=None, target=None):
        if name == "{module}" and not self.done:
            self.done, referent = True, type("It", (), {{}})()
            kept = weakref.ref(referent, lambda _: signal.raise_signal({number}))
            del referent

sys.meta_path.insert(0, Once())
"""


def program(name: str, home: Path) -> list[str]:
    port = ["--port", "0"]
    match name:
        case "agent":
            return [*AGENT, "serve", "--json", *port]
        case "plane":
            return [*AGENT, "plane", "serve", *port]
        case "embedded plane":
            return [sys.executable, "-m", "pareta_agent.plane", "--home", str(home), *port]
        case _:
            return [sys.executable, "-m", "pareta_registry", "serve", str(home), "--json", *port]


IMPORTS = (
    ("agent", "typer", signal.SIGINT),
    ("agent", "pydantic", signal.SIGTERM),
    ("agent", "uvloop", signal.SIGTERM),
    ("agent", "pareta_agent.node.node", signal.SIGINT),
    ("plane", "uvicorn", signal.SIGTERM),
    ("embedded plane", "fastapi", signal.SIGINT),
    ("registry", "aiohttp", signal.SIGINT),
)
OTHER = {signal.SIGINT: signal.SIGTERM, signal.SIGTERM: signal.SIGINT}


@pytest.mark.parametrize(
    ("name", "module", "number"),
    [
        *IMPORTS,
        *(
            pytest.param(name, module, OTHER[number], marks=pytest.mark.long)
            for name, module, number in IMPORTS
        ),
    ],
)
def test_an_interrupt_in_the_midst_of_an_import_is_obeyed(
    home: Path, tmp_path: Path, name: str, module: str, number: signal.Signals
) -> None:
    """Once the program could do its work: it does none, and ends as one that was asked to."""
    home.mkdir()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(LOSES_IT.format(module=module, number=int(number)))
    settings = {"PARETA_ENGINE_COMMAND": fake_engine(), "PYTHONPATH": str(site)}
    started = subprocess.Popen(
        program(name, home), env=environment(home, **settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = started.communicate(timeout=120)
    finally:
        kill_all(home)
    assert (started.returncode, b"Traceback" in err, b'"ready"' in out) == (0, False, False), err.decode()


@pytest.fixture
def load() -> Iterator[None]:
    """As many busy processes as there are cores, and one more."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 1) + 1)
    ]
    yield
    for each in busy:
        each.kill()
        each.wait()


def begun_and_stopped(home: Path, number: signal.Signals, after_s: float) -> None:
    settings = {"PARETA_ENGINE_COMMAND": fake_engine("--ready-after", "0.5")}
    agent = Agent(home, settings=settings)
    time.sleep(after_s)
    agent.stop(number)
    deadline = time.monotonic() + 120
    while processes_of(home):
        assert time.monotonic() < deadline, processes_of(home)
        time.sleep(0.05)
    assert [str(path) for path in home.rglob("*.partial*")] == []


def hold_at(tmp_path: Path, moments: int) -> None:
    """Starts, each in a home of its own, that are stopped within what a start takes here and now."""
    begun_s = time.monotonic()
    with Agent(tmp_path / "whole", settings={"PARETA_ENGINE_COMMAND": fake_engine()}) as agent:
        agent.ready()
    whole_s = time.monotonic() - begun_s
    for moment in range(moments):
        after_s = random.uniform(0, whole_s)
        begun_and_stopped(tmp_path / f"home-{moment}", NUMBERS[moment % 2], after_s)


@pytest.mark.timeout(600)
def test_a_start_is_stopped_at_any_moment(tmp_path: Path) -> None:
    """The short form, under the load that other tests make: no process, no half file."""
    hold_at(tmp_path, 4)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_start_is_stopped_at_200_moments(tmp_path: Path, load: None) -> None:
    """By both signals in turn."""
    hold_at(tmp_path, 200)


def test_a_second_signal_ends_at_once_what_has_not_begun(home: Path, tmp_path: Path) -> None:
    """Nothing was started yet, so that nothing is left either."""
    home.mkdir()
    hook = LOSES_IT.format(module="uvloop", number=int(signal.SIGINT))
    again = "(signal.raise_signal(2), signal.raise_signal(2))"
    (tmp_path / "sitecustomize.py").write_text(hook.replace("signal.raise_signal(2)", again))
    done = subprocess.run(
        program("agent", home),
        env=environment(home, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 128 + signal.SIGINT
    assert processes_of(home) == []

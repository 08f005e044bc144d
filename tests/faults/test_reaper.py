"""The tests' own promise: a run that fails leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from fakes import reaper


def test_what_a_run_started_ends_with_it() -> None:
    """Also what leads a session of its own, when the run is gone without a word; what is another run's stays."""
    argv = [sys.executable, "-c", "import time; time.sleep(300)"]
    mine, other = (
        subprocess.Popen(argv, env={**os.environ, reaper.MARK: mark}, start_new_session=True)
        for mark in ("a run", "another run")
    )
    watching = subprocess.Popen([sys.executable, reaper.__file__, "a run"], stdin=subprocess.PIPE, env={})
    assert mine.poll() is None
    watching.communicate(timeout=120)
    assert mine.wait(120) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait(120)

"""Shim of release 0.1: a running 0.1 agent starts every process through this file. Removed in 0.3."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("processes_exec.py")), run_name="__main__")

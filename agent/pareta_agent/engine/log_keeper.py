"""Shim of release 0.1: a running 0.1 agent starts log keepers by this path. Removed in 0.3."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent / "process" / "log_keeper.py"), run_name="__main__")

"""The fake engine's flood: numbered lines into its log as fast as they go, while a file is there."""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path

LINE = "WARNING [flood.py:1] line %012d " + 200 * "x" + "\n"
BURST = 512


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--flood-when", type=Path, default=None, help="fill the log while this file is there")


def begin(flags: argparse.Namespace) -> None:
    if flags.flood_when is not None:
        threading.Thread(target=_flood, args=(flags.flood_when,), daemon=True).start()


def _flood(while_there: Path) -> None:
    """Writes how many lines there were into that file's neighbour once it is over."""
    count = 0
    while True:
        while while_there.exists():
            os.write(2, "".join(LINE % (count + i) for i in range(BURST)).encode())
            count += BURST
            while_there.with_suffix(".count").write_text(str(count))
            time.sleep(0.001)
        time.sleep(0.01)

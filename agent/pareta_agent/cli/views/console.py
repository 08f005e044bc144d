"""Console: creates the output of commands that print tables."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console

_WIDE_COLUMNS: Final = 4096


def for_data() -> Console:
    """Standard output with the terminal's width; without a terminal the width is unlimited."""
    return Console(width=None if sys.stdout.isatty() else _WIDE_COLUMNS)

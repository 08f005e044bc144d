"""The console of commands that show tables to a person."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console

_WIDE_COLUMNS: Final = 4096


def for_data() -> Console:
    """Standard output: as wide as a terminal, and unlimited where there is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDE_COLUMNS)

"""Standard output and error of a command: what no terminal, disk or encoding can turn into a traceback."""

from __future__ import annotations

import os
import sys
from typing import Final

from rich.console import Console

from pareta_agent.errors import HostError
from pareta_agent.telemetry.sink import NAMES, Stream, encoding_of, keep_standard_descriptors

_WIDE_COLUMNS: Final = 4096


class ReaderLeft(Exception):
    """Nobody reads standard output any more, as behind `| head`: nothing is wrong."""


class Output(Stream):
    """Writes at once. Data that cannot be written ends the command; talk that cannot be written is left out."""

    def write(self, text: str) -> int:
        left = self._encoded(text)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                self._wait_for_room()
            except OSError as error:
                if self.name == "stdout":
                    raise _end(error) from None
                break
        return len(text)


def _end(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return ReaderLeft()
    return HostError(
        "output_unwritable",
        f"cannot write to standard output: {error.strerror}",
        "free some space, or redirect it to another place",
    )


def install() -> None:
    """Replaces both streams of this process."""
    keep_standard_descriptors()
    for name in ("stdout", "stderr"):
        setattr(sys, name, Output(NAMES.index(name), encoding_of(getattr(sys, name))))


def console() -> Console:
    """For what a person reads on standard output: as wide as a terminal, and unlimited where there is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDE_COLUMNS)

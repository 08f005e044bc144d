"""Standard output and error of a command: what no terminal, disk or encoding can turn into a traceback."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from typing import Final, TextIO

NAMES: Final = ("stdin", "stdout", "stderr")


class ReaderLeft(Exception):
    """Nobody reads standard output any more, as behind `| head`: nothing is wrong."""


class OutputLost(Exception):
    """Data could not be written; the message says why, `REMEDY` what to do."""

    CODE: Final = "output_unwritable"
    REMEDY: Final = "free some space, or redirect it to another place"


def escape(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: writes what an encoding lacks as JSON does, so that a JSON line stays one."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


codecs.register_error("pareta_escape", escape)


class Stream(io.TextIOBase):
    """A text stream over a descriptor without a buffer; what a write does is its subclass's."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        self.name = NAMES[descriptor] if descriptor < len(NAMES) else str(descriptor)
        self._descriptor, self._encoding = descriptor, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._encoding, "pareta_escape")

    def _wait_for_room(self) -> None:
        """After EAGAIN of a descriptor that somebody made non-blocking."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll()


class Output(Stream):
    """Writes at once. Data that cannot be written ends the command; talk that cannot be written is left out."""

    def write(self, text: str) -> int:
        """Raises ReaderLeft or OutputLost, for standard output alone."""
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
    return OutputLost(f"cannot write to standard output: {error.strerror}")


def install() -> None:
    """Replaces both streams of this process; text that waits in the old ones is written first."""
    keep_standard_descriptors()
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, unwritable, closed
            old.flush()
        setattr(sys, name, Output(NAMES.index(name), encoding_of(old)))


def encoding_of(stream: TextIO | None) -> str:
    """The encoding that Python chose; UTF-8 where it found the descriptor closed."""
    return (stream.encoding if stream else None) or "utf-8"


def keep_standard_descriptors() -> None:
    """Occupies those of 0, 1 and 2 that are closed, or the next file that is opened would get the log's text.

    A write to them fails as before.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)  # the lowest free number: this one
            os.set_inheritable(opened, True)

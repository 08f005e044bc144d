"""Standard streams: writes standard output and error without a traceback on any terminal, disk or encoding."""

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
    """Standard output has no reader any more, as behind `| head`: no error."""


class OutputLost(Exception):
    """Data could not be written. The message is the reason, `REMEDY` the action."""

    CODE: Final = "output_unwritable"
    REMEDY: Final = "free some space, or redirect standard output to another place"


def escape(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: writes a character outside the encoding as a JSON escape, so that a JSON line stays JSON."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


codecs.register_error("pareta_escape", escape)


class Stream(io.TextIOBase):
    """An unbuffered text stream over a descriptor. Subclasses define a write."""

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
        """Waits after EAGAIN of a non-blocking descriptor."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll()


class Output(Stream):
    """Writes at once. An unwritable stdout ends the command; an unwritable stderr loses the text."""

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
    """Replaces both streams of this process; text in the old buffers is written first."""
    keep_standard_descriptors()
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, unwritable, closed
            old.flush()
        setattr(sys, name, Output(NAMES.index(name), encoding_of(old)))


def encoding_of(stream: TextIO | None) -> str:
    """The encoding that Python selected; UTF-8 for a closed descriptor."""
    return (stream.encoding if stream else None) or "utf-8"


def keep_standard_descriptors() -> None:
    """Opens the closed ones of the descriptors 0, 1 and 2, or the next opened file would receive the log's text.

    A write to such a descriptor fails as before.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)  # the lowest free number: this one
            os.set_inheritable(opened, True)

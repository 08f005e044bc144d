"""Log sink: writes text to a descriptor from a thread of its own, so that no reader, disk or terminal stops a node.

Text that cannot be written now waits and is written again later: whole lines, in order. Beyond `ROOM_BYTES` the oldest
waiting text is dropped. Failures and drops are counted and never raised.
"""

from __future__ import annotations

import atexit
import codecs
import io
import os
import select
import sys
import threading
import time
from collections import deque
from typing import Final, TextIO

ROOM_BYTES: Final = 2**20
RETRY_S: Final = 0.5
GOODBYE_S: Final = 1.0
NAMES: Final = ("stdin", "stdout", "stderr")


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


class Sink(Stream):
    """Takes text without waiting. `waiting_bytes`, `failures` and `dropped_lines` may be read at any time."""

    def __init__(self, descriptor: int, encoding: str = "utf-8", room_bytes: int = ROOM_BYTES) -> None:
        super().__init__(descriptor, encoding)
        self.waiting_bytes = self.failures = self.dropped_lines = 0
        self._room_bytes = room_bytes
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._write_on, name=f"sink-{self.name}", daemon=True).start()

    def write(self, text: str) -> int:
        piece = self._encoded(text)
        with self._changed:
            self._waiting.append(piece)
            self.waiting_bytes += len(piece)
            while self.waiting_bytes > self._room_bytes and self._waiting:
                oldest = self._waiting.popleft()
                self.waiting_bytes -= len(oldest)
                self.dropped_lines += max(1, oldest.count(b"\n"))
            self._changed.notify_all()
        return len(text)

    def settle(self, within_s: float) -> bool:
        """Waits until nothing waits; False when the time is up before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.waiting_bytes, within_s)

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                piece = self._waiting.popleft()
            self._write_whole(piece)
            with self._changed:
                self._changed.notify_all()

    def _write_whole(self, piece: bytes) -> None:
        """A piece of which a part is out is never dropped: no reader gets half a line."""
        while piece:
            try:
                written = os.write(self._descriptor, piece)
            except BlockingIOError:
                self._wait_for_room()
                continue
            except OSError:
                self.failures += 1
                time.sleep(RETRY_S)
                continue
            piece = piece[written:]
            with self._changed:
                self.waiting_bytes -= written


_installed: list[Sink] = []


def install() -> None:
    """Makes standard output and standard error of this process sinks; at its end they get a moment for what waits."""
    for name in ("stdout", "stderr"):
        sink = Sink(NAMES.index(name), encoding_of(getattr(sys, name)))
        setattr(sys, name, sink)
        _installed.append(sink)
    atexit.register(settle, GOODBYE_S)


def installed() -> tuple[Sink, ...]:
    """The sinks of this process: none where `install` was not called."""
    return tuple(_installed)


def settle(within_s: float) -> None:
    """Waits until every sink has written what it took, or the time is up."""
    end_s = time.monotonic() + within_s
    for sink in _installed:
        sink.settle(max(0.0, end_s - time.monotonic()))


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

"""Log sink: writes text to a descriptor from a separate thread, so that no reader, disk or terminal stops a node.

Text waits while the descriptor blocks or fails, and is then written in order, in whole lines. Above `ROOM_BYTES` the
oldest waiting text is dropped. Failures and drops are counted and never raised.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque
from typing import Final

from pareta_registry.output import NAMES, Stream, encoding_of

ROOM_BYTES: Final = 2**20
RETRY_S: Final = 0.5
GOODBYE_S: Final = 1.0


class LogSink(Stream):
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
        """Waits until all text is written; False at the deadline."""
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
        """Writes a whole piece: a partly written piece is never dropped, so no reader receives half a line."""
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


_installed: list[LogSink] = []


def install() -> None:
    """Replaces standard output and standard error of this process by sinks, which flush for a moment at exit."""
    for name in ("stdout", "stderr"):
        sink = LogSink(NAMES.index(name), encoding_of(getattr(sys, name)))
        setattr(sys, name, sink)
        _installed.append(sink)
    atexit.register(settle, GOODBYE_S)


def installed() -> tuple[LogSink, ...]:
    """The sinks of this process; empty before `install`."""
    return tuple(_installed)


def settle(within_s: float) -> None:
    """Waits until every sink has written all text, or until the deadline."""
    end_s = time.monotonic() + within_s
    for sink in _installed:
        sink.settle(max(0.0, end_s - time.monotonic()))

"""Engine log: reads whole new lines since the last read, and rotates a log before the next generation.

After a log keeper cut out the middle of a log, only the last lines are new.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from pathlib import Path

LOGS_KEPT = 3
_MAX_READ_BYTES = 1024 * 1024
_RECENT_BYTES = 64 * 1024
_BREAK = re.compile(r"[\r\n]+")


class LogTail:
    """Reads what is new; `last` keeps the last lines for a verdict. A missing file has no lines."""

    def __init__(self, path: Path, keep: int = 500) -> None:
        self._path = path
        self._offset = 0
        self._partial = ""
        self.last: deque[str] = deque(maxlen=keep)

    def read(self) -> list[str]:
        """New whole lines; a progress bar's carriage return ends a line too."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:
                    self._offset, self._partial = max(0, size - _RECENT_BYTES), ""
                file.seek(self._offset)
                data = file.read(_MAX_READ_BYTES)
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._partial = _BREAK.split(self._partial + data.decode("utf-8", "replace"))
        self.last.extend(line for line in lines if line.strip())
        return lines

    def read_to_end(self) -> list[str]:
        """As `read`, up to the end, with an unterminated last line; of a long new part, the last MiB."""
        with contextlib.suppress(OSError):
            if (recent := self._path.stat().st_size - _MAX_READ_BYTES) > self._offset:
                self._offset, self._partial = recent, ""
        lines = []
        while new := self.read():
            lines += new
        if self._partial.strip():
            lines.append(self._partial)
            self.last.append(self._partial)
            self._partial = ""
        return lines


def turn_over(log: Path) -> None:
    """Renames `log` to `log.1`, and that to `log.2`; removes older logs."""
    for age in range(LOGS_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{age}")
        newer = log if age == 1 else log.with_name(f"{log.name}.{age - 1}")
        with contextlib.suppress(FileNotFoundError):
            newer.replace(older)

"""Metric window: a span of time, and the equal parts of a series. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

DEFAULT = "24h"
LONGEST_S = 90 * 86400
_UNIT_S = {"m": 60, "h": 3600, "d": 86400}
_WIDTHS_S = (60, 300, 900, 3600, 4 * 3600, 86400)
_MOST_PARTS = 60


@dataclass(frozen=True, slots=True)
class Window:
    """From `since_s` (included) to `until_s` (excluded); Unix seconds."""

    since_s: int
    until_s: int

    @property
    def seconds(self) -> int:
        return self.until_s - self.since_s

    @property
    def width_s(self) -> int:
        """Returns the length of one part in seconds: the shortest that gives at most sixty parts, or a day."""
        fitting = (width for width in _WIDTHS_S if self.seconds <= width * _MOST_PARTS)
        return next(fitting, _WIDTHS_S[-1])

    @property
    def parts(self) -> range:
        """Returns the start of each part."""
        return range(self.since_s, self.until_s, self.width_s)


def parse(length: str, since: str | None, until: str | None, now_s: float) -> Window | str:
    """Returns a window, or a sentence that explains the refusal.

    `length` is like 15m, 24h, 7d and ends at `until`, else now; `since` sets the start instead.
    """
    if not (found := re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", length)):
        return "window must be a number and m, h or d, like 24h"
    end_s = int(now_s) + 1 if until is None else _moment_s(until)
    begin_s = None if since is None else _moment_s(since)
    if end_s is None or (since is not None and begin_s is None):
        return "since and until must be Unix seconds or ISO 8601 times"
    if begin_s is None:
        begin_s = end_s - int(found[1]) * _UNIT_S[found[2]]
    if not 0 < end_s - begin_s <= LONGEST_S:
        return "a window must be at least one second and at most 90 days long"
    return Window(begin_s, end_s)


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


def _moment_s(text: str) -> int | None:
    """Returns Unix seconds of the moment, None outside this era."""
    try:
        at_s = int(text) if text.isascii() and text.isdigit() else _iso_s(text)
    except (ValueError, OverflowError):
        return None
    return at_s if 0 <= at_s < 2**33 else None


def _iso_s(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

"""Log: writes one logfmt line per event to standard error, never a prompt, a key or a weights id."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from pareta_agent.telemetry.events import Emit, Event, Phase

_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_OWN: Final = ("event", "level", "timestamp")


def listener(level: str, stream: TextIO | None = None) -> Emit:
    """A bus listener that logs each event from `level` upward, without progress, to `stream` or standard error."""
    out = stream or sys.stderr
    least = _LEVELS.index(level.lower())

    def write(event: Phase | Event) -> None:
        if isinstance(event, Event):
            level, name, fields = event.level, event.name, event.fields
        elif event.state != "progress":
            level, name, fields = "info", f"phase_{event.state}", _of(event)
        else:
            return
        if _LEVELS.index(level) >= least:
            out.write(_line(level, name, fields))
            out.flush()

    return write


def _of(phase: Phase) -> dict[str, Any]:
    seconds = None if phase.seconds is None else round(phase.seconds, 3)
    return {
        "endpoint": phase.endpoint,
        "phase": phase.phase,
        "seconds": seconds,
        "detail": phase.detail or None,
    }


def _line(level: str, name: str, fields: Mapping[str, Any]) -> str:
    """The line without unknown fields. A field named `event`, `level` or `timestamp` ends in an underscore."""
    reported = {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "level": level,
        "event": name,
    }
    reported |= {
        f"{key}_" if key in _OWN else key: value for key, value in fields.items() if value is not None
    }
    return " ".join(f"{key}={_word(value)}" for key, value in reported.items()) + "\n"


def _word(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value).replace("\n", " | ")
    if not any(char in text for char in ' ="'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

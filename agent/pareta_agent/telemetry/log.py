"""The log: one logfmt line per event on standard error, never a prompt, a key or a weights id."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog

from pareta_agent.telemetry.events import Emit, Event, Phase


def configure(level: str, stream: TextIO = sys.stderr) -> None:
    """Where every structlog logger of the process writes, from `level` upward."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        ],
    )


def listener() -> Emit:
    """A bus listener that logs each event; progress is left out."""
    logger = structlog.get_logger()

    def write(event: Phase | Event) -> None:
        if isinstance(event, Event):
            getattr(logger, event.level)(event.name, **_plain(event.fields))
        elif event.state != "progress":
            logger.info(
                f"phase_{event.state}",
                endpoint=event.endpoint,
                phase=event.phase,
                **_plain(
                    {"seconds": event.seconds and round(event.seconds, 3), "detail": event.detail or None}
                ),
            )

    return write


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What logfmt can hold on one line; a field named as one of the line's own gets an underscore."""
    return {
        f"{key}_" if key in ("event", "level", "timestamp") else key: value.replace("\n", " | ")
        if isinstance(value, str)
        else value
        for key, value in fields.items()
        if value is not None
    }

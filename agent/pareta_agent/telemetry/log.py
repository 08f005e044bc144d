"""The log: one logfmt line per event on standard error, never a prompt, a key or a weights id."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from pareta_agent.telemetry.events import Emit, Event, Phase


def listener(level: str, stream: TextIO = sys.stderr) -> Emit:
    """A bus listener that writes events at `level` and above to `stream`."""
    least = logging.getLevelNamesMapping()[level.upper()]
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        wrapper_class=structlog.make_filtering_bound_logger(least),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        ],
    )

    def write(event: Phase | Event) -> None:
        if isinstance(event, Event):
            getattr(logger, event.level)(event.name, **event.fields)
        elif event.state != "progress":
            logger.info(
                f"phase_{event.state}",
                endpoint=event.endpoint,
                phase=event.phase,
                seconds=None if event.seconds is None else round(event.seconds, 3),
                detail=event.detail or None,
            )

    return write

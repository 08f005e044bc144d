"""Weights lock: waits for another process's lock on an artifact, with a deadline."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.errors import HostError

_POLL_S = 0.2


async def patiently(
    attempt: Callable[[], bool], path: Path, clock: Clock, timeout_s: float, on_wait: Callable[[], None]
) -> None:
    """Calls `attempt` until it succeeds, and `on_wait` after each failure. HostError `weights_locked` past the
    deadline.
    """
    deadline_s = clock.mono_s() + timeout_s
    while not attempt():
        if clock.mono_s() >= deadline_s:
            raise HostError(
                "weights_locked",
                f"another process has held {path} for more than {timeout_s:.0f} s",
                "end that process, or set a separate weights root for this agent",
            )
        on_wait()
        await clock.sleep(random.uniform(0.5, 1.5) * _POLL_S)

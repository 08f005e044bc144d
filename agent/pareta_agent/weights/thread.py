"""Threads: runs blocking work in a thread to its end, even if the caller is cancelled.

A lock may be released only after the last write under it; `asyncio.to_thread` alone would leave the thread behind.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def whole(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`. A cancelled caller receives CancelledError once `work` has ended, whatever the result."""
    return await _outlast(asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs)), lambda: None)


async def stoppable(work: Callable[[Callable[[], None]], T]) -> T:
    """As `whole`, for long work that calls the given check. After a cancellation the next check raises."""
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise InterruptedError("stopped")

    return await _outlast(asyncio.ensure_future(asyncio.to_thread(work, check)), stop.set)


async def _outlast(running: asyncio.Future[T], on_cancel: Callable[[], None]) -> T:
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        running.exception()
        raise cancelled
    return running.result()

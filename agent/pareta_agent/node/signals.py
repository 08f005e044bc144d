"""Signals: the first SIGTERM or SIGINT stops, the second hurries. SIGHUP reads files again; SIGUSR2 starts a hot
restart.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from pareta_registry import early_signals

T = TypeVar("T")


class Signals:
    """Construct on the event loop; afterwards no handled signal ends the process by itself.

    A stop that arrived earlier, during imports, is set from the beginning.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reread = asyncio.Event()
        self.replace = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._caught)
        loop.add_signal_handler(signal.SIGHUP, self.reread.set)
        loop.add_signal_handler(signal.SIGUSR2, self.replace.set)
        if early_signals.take():
            self.stop.set()

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None after an earlier stop, which cancels `work`."""
        doing, stopped = asyncio.create_task(work), asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            for task in (doing, stopped):
                task.cancel()
            await asyncio.gather(doing, stopped, return_exceptions=True)

    def _caught(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

"""SIGTERM and SIGINT as two wishes: the first stops, the second hurries."""

from __future__ import annotations

import asyncio
import signal


class Signals:
    """Made on the event loop; from then on neither signal ends the process by itself."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._caught)

    def _caught(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

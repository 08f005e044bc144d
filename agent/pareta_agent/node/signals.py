"""SIGTERM and SIGINT: the first stops, the second hurries. SIGHUP: read files again. SIGUSR2: be replaced."""

from __future__ import annotations

import asyncio
import signal


class Signals:
    """Made on the event loop; from then on no signal of these ends the process by itself."""

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

    def _caught(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

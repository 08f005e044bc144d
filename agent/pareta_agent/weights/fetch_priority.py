"""Fetch priority: interrupts a prefetch for every fetch that an endpoint waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


class FetchPriority:
    def __init__(self) -> None:
        self._ahead = 0
        self._came, self._quiet = asyncio.Event(), asyncio.Event()
        self._quiet.set()

    @contextmanager
    def first(self) -> Iterator[None]:
        """Encloses work that an endpoint waits for."""
        self._ahead += 1
        self._quiet.clear()
        self._came.set()
        try:
            yield
        finally:
            self._ahead -= 1
            if not self._ahead:
                self._quiet.set()
                self._came.clear()

    async def after(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` while no urgent work runs. Interrupted work is cancelled and started again."""
        while True:
            await self._quiet.wait()
            working = asyncio.ensure_future(work())
            came = asyncio.create_task(self._came.wait())
            try:
                await asyncio.wait({working, came}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                came.cancel()
                if not working.done():
                    working.cancel()
                    await asyncio.wait({working})
            if not working.cancelled():
                return working.result()

"""Task group: starts and stops endless tasks together, any number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

Endless = Callable[[], Coroutine[Any, Any, None]]


class LoopGroup:
    """`over` is done once a loop has returned or raised, with the loop's exception."""

    def __init__(self, loops: Sequence[Endless]) -> None:
        self._loops = loops
        self._tasks: list[asyncio.Task[None]] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(loop()) for loop in self._loops]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.over.done():
            return
        if (error := task.exception()) is not None:
            self.over.set_exception(error)
        else:
            self.over.set_result(None)

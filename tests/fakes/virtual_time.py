"""An event loop whose time a test owns: where nothing is left to run, the next timer is due at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    """Advances its loop's time instead of waiting for it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("the loop would wait for ever: nothing is scheduled")
        self.loop.now_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _Selector()
        self.now_s = 1000.0
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


class LoopClock:
    """The agent's clock, on the running loop's time."""

    def mono_s(self) -> float:
        return asyncio.get_running_loop().time()

    wall_s = boot_s = mono_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)

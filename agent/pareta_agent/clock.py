"""Time as the agent sees it, so that tests can turn the hands.

`Clock` is the one Protocol with two implementations: the machine's and the tests' fake.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def wall_s(self) -> float:
        """Seconds since the Unix epoch; may step."""

    def mono_s(self) -> float:
        """Seconds that never step back; stops while the machine sleeps."""

    def boot_s(self) -> float:
        """Seconds since boot, sleep included (CLOCK_BOOTTIME): what a lease is measured on."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    wall_s = staticmethod(time.time)
    mono_s = staticmethod(time.monotonic)

    def boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

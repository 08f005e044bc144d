"""Clock: returns wall, monotonic and boot time, and waits. Tests implement the Protocol with a fake clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def wall_s(self) -> float:
        """Seconds since the Unix epoch; may step."""

    def mono_s(self) -> float:
        """Monotonic seconds, suspend excluded (CLOCK_MONOTONIC)."""

    def boot_s(self) -> float:
        """Seconds since boot, suspend included (CLOCK_BOOTTIME). Leases are measured on this clock."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    wall_s = staticmethod(time.time)
    mono_s = staticmethod(time.monotonic)

    def boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

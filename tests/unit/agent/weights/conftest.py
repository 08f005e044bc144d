"""A clock whose sleeps are noted and take no time."""

from __future__ import annotations

import asyncio

import pytest


class NotedClock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def wall_s(self) -> float:
        return self.now_s

    mono_s = boot_s = wall_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> NotedClock:
    return NotedClock()

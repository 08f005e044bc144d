"""A clock whose hands a test turns."""

from __future__ import annotations

import asyncio

import pytest


class TurnedClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_s(self) -> float:
        return self.now_s

    def mono_s(self) -> float:
        return self.now_s

    def boot_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()

"""What somebody waits for goes first."""

from __future__ import annotations

import asyncio

import pytest

from pareta_agent.weights.fetch_priority import FetchPriority


async def test_work_that_goes_first_interrupts() -> None:
    """What is done ahead is cancelled, waits, and is begun again; its end and its failure are its own."""
    turn, begun, may_end = FetchPriority(), [], asyncio.Event()

    async def work() -> None:
        begun.append(1)
        await may_end.wait()

    ahead = asyncio.create_task(turn.after(work))
    while not begun:
        await asyncio.sleep(0)
    with turn.first():
        for _ in range(5):
            await asyncio.sleep(0)
        may_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (len(begun), ahead.done()) == (1, False)
    await ahead
    assert len(begun) == 2


async def test_a_failure_is_told() -> None:
    """It is not taken for an interruption."""

    async def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        await FetchPriority().after(fail)


async def test_who_gives_up_ends_the_work() -> None:
    """A cancelled wait leaves no work behind."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    ahead = asyncio.create_task(FetchPriority().after(work))
    for _ in range(5):
        await asyncio.sleep(0)
    ahead.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ahead
    assert ended.is_set()

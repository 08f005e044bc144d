"""Work under a lock ends before the lock is let go, also when nobody waits for its result any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from pareta_agent.weights.thread import stoppable, whole


async def test_a_result_and_an_error_pass() -> None:
    """Without a cancellation it is a thread like any other."""
    assert await whole(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await whole(divmod, 1, 0)


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_caller_waits_for_the_end(cancels: int) -> None:
    """However often it is cancelled, the caller returns only after the thread."""
    started, go = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        started.set()
        go.wait(60)
        ended.append(True)
        raise ValueError("nobody hears this")

    task = asyncio.create_task(whole(work))
    while not started.is_set():
        await asyncio.sleep(0)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    assert (task.done(), ended) == (False, [])
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_long_work_stops_at_its_next_check() -> None:
    """A cancelled caller does not wait for more than one step."""
    steps = 0
    started = threading.Event()

    def work(check: Callable[[], None]) -> None:
        nonlocal steps
        while True:
            check()
            steps += 1
            started.set()

    task = asyncio.create_task(stoppable(work))
    while not started.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    seen = steps
    await asyncio.sleep(0)
    assert steps == seen

"""What waits for the spool's thread: putting something in costs a wake only when somebody would wait otherwise.

A wake is two context switches and a fight for the interpreter, which for each admission and each record would cost
more than writing it. It knows when to wake and nothing of what the jobs are.
"""

from __future__ import annotations

import contextlib
from collections import deque
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")
AWAKE: Final = 0
LINGERING: Final = 1  # woken by what can wait a little, so only by what cannot
IDLE: Final = 2


class WriteQueue(Generic[T]):
    """Any thread puts; one thread takes."""

    def __init__(self) -> None:
        self._jobs: deque[T] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._sleep = AWAKE
        self._urgent = False

    def put(self, job: T, *, urgent: bool) -> None:
        """`urgent` jobs are taken as soon as the taker is free, others when `linger_s` has passed."""
        self._jobs.append(job)
        if urgent:
            self._urgent = True
        if self._sleep > (AWAKE if urgent else LINGERING):
            self._sleep = AWAKE
            self._bell.put(None)

    def take(self, limit: int, idle_s: float, linger_s: float) -> list[T]:
        """Up to `limit` jobs, oldest first; none after `idle_s` without any."""
        if not self._jobs:
            self._wait(IDLE, idle_s)
        if self._jobs and not self._urgent:
            self._wait(LINGERING, linger_s)
        jobs = self._jobs
        self._urgent = False
        taken = [jobs.popleft() for _ in range(min(limit, len(jobs)))]
        if jobs:
            self._urgent = True
        return taken

    def _wait(self, sleep: int, timeout_s: float) -> None:
        """Until the bell or the timeout; an old ring only makes it shorter."""
        self._sleep = sleep
        if self._urgent or (sleep == IDLE and self._jobs):
            self._sleep = AWAKE  # it came before the sleep was announced
            return
        with contextlib.suppress(Empty):
            self._bell.get(timeout=timeout_s)
        self._sleep = AWAKE

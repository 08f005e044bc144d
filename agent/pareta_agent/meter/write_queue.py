"""Write queue: passes jobs to the spool's writer thread with few wake-ups.

A wake-up costs two context switches and contention for the interpreter lock, more than the write itself. The queue
wakes the thread only for a job that cannot wait.
"""

from __future__ import annotations

import contextlib
from collections import deque
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")
AWAKE: Final = 0
LINGERING: Final = 1  # woken by an urgent job only: other jobs may wait a little
IDLE: Final = 2


class WriteQueue(Generic[T]):
    """Any thread puts; one thread takes."""

    def __init__(self) -> None:
        self._jobs: deque[T] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._sleep = AWAKE
        self._urgent = False

    def put(self, job: T, *, urgent: bool) -> None:
        """Adds a job. An `urgent` job is taken as soon as the taker is free, any other after `linger_s`."""
        self._jobs.append(job)
        if urgent:
            self._urgent = True
        if self._sleep > (AWAKE if urgent else LINGERING):
            self._sleep = AWAKE
            self._bell.put(None)

    def take(self, limit: int, idle_s: float, linger_s: float) -> list[T]:
        """Returns up to `limit` jobs, oldest first; an empty list after `idle_s` without a job."""
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
        """Waits for the bell or the timeout; a stale ring only shortens the wait."""
        self._sleep = sleep
        if self._urgent or (sleep == IDLE and self._jobs):
            self._sleep = AWAKE  # a job came before the sleep was announced
            return
        with contextlib.suppress(Empty):
            self._bell.get(timeout=timeout_s)
        self._sleep = AWAKE

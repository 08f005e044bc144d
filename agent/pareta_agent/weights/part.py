"""Part fetch: reads a part of a file from a store to the disk, with a stall timeout, retries and a byte count.

Bytes are counted, not verified: never more and never fewer than the part's size.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.backoff import FULL_JITTER, Backoff
from pareta_agent.clock import Clock
from pareta_agent.weights.disk import write_at
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.thread import whole
from pareta_registry.errors import ArtifactError
from pareta_registry.stores import Store
from pareta_registry.stores.base import Piece

Update = Callable[[Piece], None]
_BACKOFF = Backoff(first_s=0.5, cap_s=30.0, jitter=FULL_JITTER)
_RETRY_AFTER_CAP_S = 120.0


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes [start, stop) of `path`, which is file number `file` of the manifest."""

    file: int
    index: int
    path: str
    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


class PartFetcher:
    """Fetches parts into files under `target`. `on_bytes` receives the count of every written piece."""

    def __init__(
        self,
        store: Store,
        target: Path,
        settings: WeightsSettings,
        clock: Clock,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._store = store
        self._target = target
        self._settings = settings
        self._clock = clock
        self._on_bytes = on_bytes

    async def fetch(self, part: Part, update: Update | None = None) -> None:
        """Fetches the whole part into the file. A retry continues where the last attempt ended.

        `update` receives each byte of the part once, in order, after the write.
        """
        position = part.start
        for attempt in range(1, self._settings.part_attempts + 1):
            position, failure = await self._attempt(part, position, update)
            if failure is None:
                return
            if not failure.retryable or attempt == self._settings.part_attempts:
                raise failure
            await self._clock.sleep(pause_s(attempt, failure.retry_after_s))

    async def _attempt(
        self, part: Part, position: int, update: Update | None
    ) -> tuple[int, ArtifactError | None]:
        """Reads on from `position`; returns the position reached and the failure, if any."""
        stall_s = self._settings.stall_timeout_s
        loop = asyncio.get_running_loop()
        path = self._target / part.path
        failure: ArtifactError | None = None
        try:
            async with (
                asyncio.timeout(stall_s) as stall,
                aclosing(self._store.read(part.path, position, part.stop)) as pieces,
            ):
                async for piece in pieces:
                    stall.reschedule(None)
                    if position + len(piece) > part.stop:
                        return position, self._failure(part, "artifact_overlong", "more bytes than requested")
                    await whole(_keep, path, position, piece, update)
                    position += len(piece)
                    self._on_bytes(len(piece))
                    stall.reschedule(loop.time() + stall_s)
        except TimeoutError:
            failure = self._failure(part, "artifact_stalled", f"nothing for {stall_s:g} s")
        except ArtifactError as error:
            failure = error
        if failure is None and position < part.stop:
            failure = self._failure(part, "artifact_truncated", f"an end after {position - part.start} bytes")
        return position, failure

    def _failure(self, part: Part, code: str, sent: str) -> ArtifactError:
        return ArtifactError(
            code,
            f"{self._store.where} sent {sent} instead of bytes {part.start} to {part.stop} of {part.path}",
            "check the registry and its network path to this host, then start again: the fetch resumes",
            retryable=code != "artifact_overlong",
        )


def _keep(path: Path, position: int, piece: Piece, update: Update | None) -> None:
    write_at(path, position, piece)
    if update is not None:
        update(piece)


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Full-jitter backoff before the next attempt, never shorter than the store's Retry-After."""
    return _BACKOFF.delay_s(attempt, random.random()) + min(retry_after_s or 0.0, _RETRY_AFTER_CAP_S)

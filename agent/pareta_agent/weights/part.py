"""One part of one file from a store to the disk: the place of the stall timeout, the retries and the byte count.

What arrives is not verified here, only counted: never past the part's end, and not short of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.clock import Clock
from pareta_agent.weights.disk import write_at
from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.thread import whole
from pareta_registry.errors import ArtifactError
from pareta_registry.stores import Store

_WRITE_BYTES = 2 << 20
_BACKOFF_BASE_S, _BACKOFF_CAP_S, _RETRY_AFTER_CAP_S = 0.25, 30.0, 120.0


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes [start, stop) of `path`, which is file number `file` of its manifest."""

    file: int
    index: int
    path: str
    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


class PartFetcher:
    """Fetches parts into files under `target`; `on_bytes` hears of every byte that was written."""

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

    async def fetch(self, part: Part) -> None:
        """The whole part is in its file when this returns; a retry goes on where the last attempt was cut."""
        position = part.start
        for attempt in range(1, self._settings.part_attempts + 1):
            position, failure = await self._attempt(part, position)
            if failure is None:
                return
            if not failure.retryable or attempt == self._settings.part_attempts:
                raise failure
            await self._clock.sleep(pause_s(attempt, failure.retry_after_s))

    async def _attempt(self, part: Part, position: int) -> tuple[int, ArtifactError | None]:
        """Reads on from `position`; returns how far it came and what stopped it, if anything."""
        stall_s = self._settings.stall_timeout_s
        loop = asyncio.get_running_loop()
        pending: list[bytes] = []
        pending_bytes = 0
        failure: ArtifactError | None = None
        try:
            async with (
                asyncio.timeout(stall_s) as stall,
                aclosing(self._store.read(part.path, position, part.stop)) as pieces,
            ):
                async for piece in pieces:
                    stall.reschedule(None)
                    pending.append(piece)
                    pending_bytes += len(piece)
                    if position + pending_bytes > part.stop:
                        return position, self._failure(
                            part, "artifact_overlong", "more bytes than were asked for"
                        )
                    if pending_bytes >= _WRITE_BYTES:
                        position = await self._write(part, position, pending)
                        pending, pending_bytes = [], 0
                    stall.reschedule(loop.time() + stall_s)
        except TimeoutError:
            failure = self._failure(part, "artifact_stalled", f"nothing for {stall_s:g} s")
        except ArtifactError as error:
            failure = error
        if pending:
            position = await self._write(part, position, pending)
        if failure is None and position < part.stop:
            failure = self._failure(part, "artifact_truncated", f"an end after {position - part.start} bytes")
        return position, failure

    async def _write(self, part: Part, position: int, pieces: Sequence[bytes]) -> int:
        count = await whole(write_at, self._target / part.path, position, pieces)
        self._on_bytes(count)
        return position + count

    def _failure(self, part: Part, code: str, sent: str) -> ArtifactError:
        return ArtifactError(
            code,
            f"{self._store.where} sent {sent}, where bytes {part.start} to {part.stop} of {part.path} were due",
            "look at the registry and the network between it and this host, then start again: the fetch resumes",
            retryable=code != "artifact_overlong",
        )


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Full-jitter backoff before the next attempt, never shorter than what the store asked for."""
    backoff_s = random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**attempt))
    return backoff_s + min(retry_after_s or 0.0, _RETRY_AFTER_CAP_S)

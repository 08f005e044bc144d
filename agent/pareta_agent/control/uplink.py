"""Uplink: sends the spool to the plane: batches in order, one at a time, until each is acknowledged with the right
hash.

Unacknowledged records are sent again with a retry backoff, so a failure loses nothing. `delivery` classifies the
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pareta_agent.backoff import FULL_JITTER, Backoff
from pareta_agent.clock import Clock
from pareta_agent.contract import wire
from pareta_agent.contract.usage_event import SpoolEntry
from pareta_agent.control.delivery import Acked, Rewind, Split, Wait, judge
from pareta_agent.control.plane_client import EventsAnswer
from pareta_agent.errors import PlaneError
from pareta_agent.meter.spool import Spool
from pareta_agent.telemetry.events import Emit, Event

_IDLE_TICK_S = 5.0
_HURRIED_RETRY_S = 0.5
_BRACKETS_AND_COMMAS_BYTES = 2


class EventSink(Protocol):
    """Receives batches: the plane's client, or a test's."""

    async def events(self, events: Sequence[bytes], *, resync: bool = False) -> EventsAnswer: ...


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """Timing and size of batches.

    `linger_s`: seconds to wait after the first new record, so that a batch gathers more records. `max_events_per_s`:
    maximum rate while a backlog drains, which spares the plane.
    """

    max_events: int = wire.MAX_EVENTS
    max_bytes: int = wire.MAX_EVENTS_BYTES
    linger_s: float = 0.02
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    paused_s: float = 60.0
    max_events_per_s: float = 20_000.0


@dataclass(frozen=True, slots=True)
class UplinkView:
    """Counts since the start. `trouble` is empty while batches are acknowledged."""

    batches: int = 0
    acked: int = 0
    duplicates: int = 0
    rejected: int = 0
    forged: int = 0
    rewinds: int = 0
    splits: int = 0
    failures: int = 0
    trouble: str = ""


class Uplink:
    def __init__(
        self, plane: EventSink, spool: Spool, clock: Clock, emit: Emit, settings: UplinkSettings | None = None
    ) -> None:
        self._plane, self._spool, self._clock, self._emit = plane, spool, clock, emit
        self._settings = settings or UplinkSettings()
        self._limit = self._settings.max_events
        self._attempt = 0
        self._resync_epoch: int | None = None
        self._news, self._hurry, self._progress = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.view = UplinkView()
        spool.listen(self._news.set)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            self._news.clear()
            entries = self._fit(await self._spool.unacked(self._limit))
            if not entries:
                await _either(self._news, self._hurry, _IDLE_TICK_S)
                self._hurry.clear()
                if not await self._spool.unacked(1):
                    continue
                await self._pause(self._settings.linger_s)
                continue
            started_s = self._clock.mono_s()
            delay_s = await self._deliver(entries)
            spent_s = self._clock.mono_s() - started_s
            await self._pause(max(delay_s, len(entries) / self._settings.max_events_per_s - spent_s))

    async def drained(self, timeout_s: float) -> bool:
        """Sends without lingering and with short retry delays until the plane has acknowledged everything.

        False if `timeout_s` seconds did not suffice.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._spool.flush(timeout_s)
                while self._spool.stats().unacked:
                    self._progress.clear()
                    self._hurry.set()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_HURRIED_RETRY_S):
                            await self._progress.wait()
        return self._spool.stats().unacked == 0

    def resume(self) -> None:
        """Sends again at once, because a condition changed (a new epoch, a new token)."""
        self._attempt = 0
        self._hurry.set()

    def _fit(self, entries: list[SpoolEntry]) -> list[SpoolEntry]:
        fitting: list[SpoolEntry] = []
        budget_bytes = self._settings.max_bytes - _BRACKETS_AND_COMMAS_BYTES
        for entry in entries:
            budget_bytes -= len(entry.wire()) + 1
            if budget_bytes < 0 and fitting:
                break
            fitting.append(entry)
        return fitting

    async def _deliver(self, entries: list[SpoolEntry]) -> float:
        """Sends one batch; returns the seconds to wait before the next batch."""
        last = entries[-1]
        try:
            resync = last.epoch == self._resync_epoch
            answer = await self._plane.events([entry.wire() for entry in entries], resync=resync)
        except PlaneError as error:
            return self._trouble(Wait(error.message))
        self.view = replace(self.view, batches=self.view.batches + 1)
        match judge(answer.status, answer.body, answer.retry_after_s, last.epoch, last.sequence):
            case Acked() as ack:
                return await self._acked(ack, last, len(entries))
            case Rewind(expected):
                return await self._rewind(last.epoch, expected)
            case Split():
                return self._split(len(entries))
            case Wait() as wait:
                return self._trouble(wait)

    async def _acked(self, ack: Acked, last: SpoolEntry, sent: int) -> float:
        if not await self._spool.ack(last.epoch, ack.sequence, ack.hash):
            self.view = replace(self.view, forged=self.view.forged + 1)
            return self._trouble(Wait("an ack with another hash than the spool's"))
        if ack.rejected:
            await self._spool.quarantine(last.epoch, list(ack.rejected))
            for sequence, reason in ack.rejected:
                fields = {"epoch": last.epoch, "sequence": sequence, "reason": reason}
                self._emit(Event("usage_rejected", "error", fields))
        if self.view.trouble:
            self._emit(Event("uplink_recovered"))
        self._attempt, self._resync_epoch = 0, None
        self._limit = min(self._limit * 2, self._settings.max_events)
        self.view = replace(
            self.view,
            acked=self.view.acked + sent - ack.duplicates,
            duplicates=self.view.duplicates + ack.duplicates,
            rejected=self.view.rejected + len(ack.rejected),
            trouble="",
        )
        self._progress.set()
        return 0.0

    async def _rewind(self, epoch: int, expected: int) -> float:
        first = await self._spool.rewind(epoch, expected)
        if first is None:
            return self._trouble(Wait(f"requires event {expected} of epoch {epoch}, which was never written"))
        if first > expected:
            self._resync_epoch = epoch
            fields = {"epoch": epoch, "from_sequence": expected, "to_sequence": first - 1}
            self._emit(Event("usage_not_kept", "error", fields))
        self.view = replace(self.view, rewinds=self.view.rewinds + 1)
        self._emit(Event("uplink_rewound", "warning", {"epoch": epoch, "sequence": expected}))
        self._attempt += 1
        return 0.0 if self._attempt == 1 else self._backoff_s()

    def _split(self, sent: int) -> float:
        self.view = replace(self.view, splits=self.view.splits + 1)
        if sent == 1:
            return self._trouble(Wait("one event is too large for the plane"))
        self._limit = sent // 2
        return 0.0

    def _trouble(self, wait: Wait) -> float:
        if wait.reason != self.view.trouble:
            self._emit(Event("uplink_failed", "warning", {"reason": wait.reason}))
        self._attempt += 1
        self.view = replace(self.view, failures=self.view.failures + 1, trouble=wait.reason)
        if wait.paused:
            return self._settings.paused_s
        return self._backoff_s() if wait.seconds is None else wait.seconds

    def _backoff_s(self) -> float:
        backoff = Backoff(self._settings.backoff_s, self._settings.backoff_max_s, FULL_JITTER)
        return backoff.delay_s(self._attempt, random.random())

    async def _pause(self, seconds: float) -> None:
        """Waits, unless `_hurry` is set."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            self._hurry.clear()


async def _either(first: asyncio.Event, second: asyncio.Event, timeout_s: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

"""Serving: watches a ready engine until the engine ends, hangs by the watchdog's verdict, or may go to sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pareta_agent.engine.process.engine_process import cancel
from pareta_agent.engine.replica import exit_reason as exit_reasons
from pareta_agent.engine.replica.lifecycle import ReplicaEvent
from pareta_agent.engine.replica.sleeping import SleepSwitch
from pareta_agent.engine.replica.start import EngineStart, Outcome, Starter
from pareta_agent.engine.replica.watchdog import Watchdog
from pareta_agent.telemetry.events import Emit

_IDLE_POLL_S = 0.1


class Serving:
    """`in_flight` is how many requests the front holds at a replica, by name."""

    def __init__(
        self,
        starter: Starter,
        start: EngineStart,
        sleep_switch: SleepSwitch,
        in_flight: Callable[[str], int],
        emit: Emit,
    ) -> None:
        self._starter, self._start, self._sleep_switch, self._in_flight = (
            starter,
            start,
            sleep_switch,
            in_flight,
        )
        clock, settings = starter.clock, starter.settings
        self._dog = Watchdog(starter.spec, starter.run_dir, settings, clock, in_flight, self._compiling, emit)

    async def run(self) -> Outcome:
        """(SLEEP, …), or (FAILED | EXITED | HUNG, why)."""
        assert self._start.engine is not None
        exited = asyncio.ensure_future(self._start.engine.wait())
        watched = asyncio.ensure_future(self._dog.run())
        sleepy = asyncio.ensure_future(self._may_sleep())
        try:
            await asyncio.wait({exited, watched, sleepy}, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return self._start.ended(exited.result())
            return watched.result() if watched.done() else (ReplicaEvent.SLEEP, exit_reasons.STOPPED)
        finally:
            await cancel(exited, watched, sleepy)

    def _compiling(self) -> bool:
        return self._start.engine is not None and self._start.engine.compiling()

    async def _may_sleep(self) -> None:
        while True:
            await self._sleep_switch.until(True)
            if not self._dog.asks and not self._in_flight(self._starter.name):
                return
            await self._starter.clock.sleep(_IDLE_POLL_S)

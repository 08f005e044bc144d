"""Fleet context: holds the dependencies that all slots share, and the counter of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pareta_agent.clock import Clock
from pareta_agent.engine.process.adoption import AdoptableEngines
from pareta_agent.engine.process.gpu_memory import ReadGpus
from pareta_agent.engine.process.process_record import Intents
from pareta_agent.engine.replica.start_phases import OnColdStart
from pareta_agent.engine.spec import EngineSettings
from pareta_agent.engine.standby.standby_pool import StandbyPool
from pareta_agent.hardware.cores import Cores
from pareta_agent.planning.placement import cpu_share
from pareta_agent.telemetry.events import Emit


class Changed:
    """A counter that grows with every change and wakes all waiters."""

    def __init__(self) -> None:
        self.revision = 0
        self._woken = asyncio.Event()

    def __call__(self) -> None:
        self.revision += 1
        self._woken.set()
        self._woken = asyncio.Event()

    async def since(self, revision: int) -> int:
        """Waits until the counter is past `revision`, and returns the counter."""
        while self.revision <= revision:
            await self._woken.wait()
        return self.revision


@dataclass(slots=True)
class FleetContext:
    """Dependencies of every slot of the fleet. `changed` is called after any change that a view can show.

    Only the fleet replaces `settings` (when the interpreter becomes known), `in_flight` and `expected`; a running
    engine keeps the old settings.
    """

    settings: EngineSettings
    intents: Intents
    clock: Clock
    emit: Emit
    on_cold_start: OnColdStart
    changed: Changed
    pool: StandbyPool
    in_flight: Callable[[str], int]
    adoptable: AdoptableEngines
    read_gpus: ReadGpus
    read_cores: Callable[[], Cores]
    expected: tuple[str, ...] = ()

    def share(self, replica: str) -> cpu_share.Share:
        """The part of the host's cores of an engine without a GPU, among all that are to run here. Reads files."""
        seats = self.expected if replica in self.expected else (*self.expected, replica)
        return cpu_share.share(self.read_cores(), len(seats), seats.index(replica), self.settings.threads)

    def held(self, replica: str) -> int:
        """Requests that the front holds at a replica now; the front may come to be after the first engine."""
        return self.in_flight(replica)

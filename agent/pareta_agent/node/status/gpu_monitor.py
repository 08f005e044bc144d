"""GPU monitor: samples this node's GPUs for metrics, fences faulty GPUs and reports the change.

A fatal XID fences until the agent's next start, because only a reset repairs the GPU. Any other fault fences as long as
NVML reports the fault. NVML's own silence fences nothing. The monitor knows no placement.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping

from pareta_agent.hardware.inventory import Inventory
from pareta_agent.hardware.nvml import follow_faults, read_inventory, read_samples
from pareta_agent.hardware.sample import GpuFault, Sample, fenced, sick
from pareta_agent.telemetry.events import Emit, Event

TICK_S = 5.0


class GpuWatch:
    """`sick` has each fenced GPU's reason, by uuid. `moved` is called after every change of `sick`."""

    def __init__(self, first: Inventory, emit: Emit, on_xid: Callable[[GpuFault], None]) -> None:
        self._emit, self._on_xid = emit, on_xid
        self._known = tuple(gpu.uuid for gpu in first.gpus)
        self._faults: dict[str, GpuFault] = {}
        self._woken = asyncio.Event()
        self.latest = first
        self.samples: tuple[Sample, ...] = ()
        self.sick: Mapping[str, str] = sick(first, ())

    def inventory(self) -> Inventory:
        """The present node, fatal XIDs included. Blocks."""
        return fenced(read_inventory(), tuple(self._faults.values()))

    async def run(self, moved: Callable[[], Awaitable[None]]) -> None:
        """Runs until cancelled; does nothing on a node without GPUs."""
        if not self._known:
            await asyncio.Event().wait()
        stopped, loop = threading.Event(), asyncio.get_running_loop()

        def reported(fault: GpuFault) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(self._hear, fault)

        threading.Thread(
            target=follow_faults, args=(reported, stopped), name="nvml-events", daemon=True
        ).start()
        try:
            while True:
                if await self._look():
                    await moved()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            stopped.set()

    def _hear(self, fault: GpuFault) -> None:
        self._on_xid(fault)
        if fault.fatal:
            self._faults.setdefault(fault.uuid, fault)
            self._woken.set()

    async def _look(self) -> bool:
        """Reads every GPU once; returns whether the set of fenced GPUs changed."""
        found, self.samples = await asyncio.to_thread(lambda: (self.inventory(), read_samples()))
        if found.nvml_error is not None:
            return False
        before, self.latest, self.sick = self.sick, found, sick(found, self._known)
        for uuid, reason in self.sick.items():
            if uuid not in before:
                self._emit(Event("gpu_fenced", "error", {"gpu": uuid, "reason": reason}))
        for uuid in before.keys() - self.sick.keys():
            self._emit(Event("gpu_recovered", "warning", {"gpu": uuid}))
        return before.keys() != self.sick.keys()

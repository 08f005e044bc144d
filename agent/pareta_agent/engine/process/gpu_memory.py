"""GPU memory: waits until the memory of an ended engine is free again, which may take seconds.

Checked before an engine starts and after an engine ended; memory that NVML does not report counts as free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pareta_agent.clock import Clock
from pareta_agent.hardware.inventory import Gpu
from pareta_agent.telemetry.events import Emit, Event

ReadGpus = Callable[[], tuple[Gpu, ...]]
_SLACK_BYTES = 512 * 1024**2
_POLL_S = 0.5
RELEASE_S = 30.0


@dataclass(frozen=True, slots=True)
class Held:
    """A GPU with memory not given back: the missing bytes, and the pids there."""

    uuid: str
    missing_bytes: int
    pids: tuple[int, ...]


def free_by_uuid(gpus: Sequence[Gpu], wanted: Sequence[str]) -> dict[str, int]:
    """Free bytes of the wanted GPUs that could be read: the baseline of a start."""
    return {
        gpu.uuid: gpu.memory_free_bytes
        for gpu in gpus
        if gpu.uuid in wanted and gpu.memory_free_bytes is not None
    }


def held(gpus: Sequence[Gpu], baseline: Mapping[str, int]) -> list[Held]:
    """The GPUs that have clearly less free than at the baseline."""
    found = []
    for gpu in gpus:
        missing = baseline.get(gpu.uuid, 0) - (gpu.memory_free_bytes or 0)
        if gpu.uuid in baseline and gpu.memory_free_bytes is not None and missing > _SLACK_BYTES:
            found.append(Held(gpu.uuid, missing, tuple(process.pid for process in gpu.processes or ())))
    return found


async def until_released(
    read: ReadGpus, baseline: Mapping[str, int], clock: Clock, deadline_s: float
) -> list[Held]:
    """Waits until the memory is back, at most `deadline_s`; answers what is still held."""
    end_s = clock.mono_s() + deadline_s
    while baseline:
        still = held(await asyncio.to_thread(read), baseline)
        if not still or clock.mono_s() >= end_s:
            return still
        await clock.sleep(_POLL_S)
    return []


async def confirm_released(read: ReadGpus, baseline: Mapping[str, int], clock: Clock, emit: Emit) -> None:
    """Waits for the memory of an ended engine, which the next engine requires; names the processes that hold memory."""
    for each in await until_released(read, baseline, clock, RELEASE_S):
        fields = {"gpu": each.uuid, "missing_bytes": each.missing_bytes, "pids": list(each.pids)}
        emit(Event("gpu_memory_held", "error", fields))

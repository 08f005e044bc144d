"""GPU sample: holds one GPU's load, and the faults that fence a GPU, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pareta_agent.hardware.inventory import Gpu, Inventory

APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 63, 68, 94, 137})
"""XIDs that end one process, or only report; the GPU itself continues to serve (NVIDIA's XID catalog)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading of one GPU; None for a value that the driver does not report."""

    uuid: str
    busy_ratio: float | None
    memory_free_bytes: int | None
    temperature_celsius: int | None
    power_milliwatts: int | None
    lost: bool


@dataclass(frozen=True, slots=True)
class GpuFault:
    """A critical XID event. A fatal event fences the GPU until an operator resets the GPU."""

    uuid: str
    xid: int

    @property
    def fatal(self) -> bool:
        return self.xid not in APPLICATION_XIDS


def fenced(inventory: Inventory, faults: Iterable[GpuFault]) -> Inventory:
    """The inventory with the fatal faults in the health of their GPUs, and of the instances of a faulty GPU."""
    fatal = {fault.uuid: fault.xid for fault in faults if fault.fatal}

    def marked(gpu: Gpu) -> Gpu:
        xid = fatal.get(gpu.uuid) or (fatal.get(gpu.mig.parent) if gpu.mig else None)
        return gpu if xid is None else replace(gpu, health=replace(gpu.health, xid=xid))

    return replace(inventory, gpus=tuple(marked(gpu) for gpu in inventory.gpus))


def sick(inventory: Inventory, known: Iterable[str]) -> dict[str, str]:
    """The reason for which no engine may run, by uuid: each GPU's own fault, and each known GPU that is no longer
    listed.
    """
    faults = {gpu.uuid: gpu.fault for gpu in inventory.gpus if gpu.fault is not None}
    listed = {gpu.uuid for gpu in inventory.gpus}
    return faults | {uuid: "fell off the bus" for uuid in known if uuid not in listed}

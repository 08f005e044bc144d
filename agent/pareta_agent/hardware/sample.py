"""What a GPU does right now, and what just went wrong with it: values for metrics and for fencing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pareta_agent.hardware.inventory import Gpu, Inventory

APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 63, 68, 94, 137})
"""XIDs that end one process, or only report; the GPU itself serves on (NVIDIA's XID catalog)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one GPU; None is what the driver does not say."""

    uuid: str
    busy_ratio: float | None
    memory_free_bytes: int | None
    temperature_celsius: int | None
    power_milliwatts: int | None
    lost: bool


@dataclass(frozen=True, slots=True)
class GpuFault:
    """A critical XID event. `fatal` ones fence the GPU until someone resets it."""

    uuid: str
    xid: int

    @property
    def fatal(self) -> bool:
        return self.xid not in APPLICATION_XIDS


def fenced(inventory: Inventory, faults: Iterable[GpuFault]) -> Inventory:
    """The inventory with the fatal faults written into their GPUs' health, and into a faulty GPU's instances."""
    fatal = {fault.uuid: fault.xid for fault in faults if fault.fatal}

    def marked(gpu: Gpu) -> Gpu:
        xid = fatal.get(gpu.uuid) or (fatal.get(gpu.mig.parent) if gpu.mig else None)
        return gpu if xid is None else replace(gpu, health=replace(gpu.health, xid=xid))

    return replace(inventory, gpus=tuple(marked(gpu) for gpu in inventory.gpus))


def sick(inventory: Inventory, known: Iterable[str]) -> dict[str, str]:
    """Why nothing may run there, by uuid: each GPU's own fault, and those that were known and are not listed."""
    faults = {gpu.uuid: gpu.fault for gpu in inventory.gpus if gpu.fault is not None}
    listed = {gpu.uuid for gpu in inventory.gpus}
    return faults | {uuid: "fell off the bus" for uuid in known if uuid not in listed}

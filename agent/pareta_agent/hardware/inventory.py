"""Inventory: holds the hardware of a node as values that survive a JSON file.

A field that the driver does not support is None. GPUs are named by uuid; a MIG instance is a GPU of its own with a
parent. This module reads no hardware: `nvml.py` and `host.py` do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, TypeAdapter

GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on a GPU. In a container `pid` may belong to another namespace."""

    pid: int
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Mig:
    """Marks a GPU as a MIG instance: `parent` is the physical GPU's uuid, `profile` for example `3g.40gb`."""

    parent: str
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The driver's report on a GPU's state. None: not supported, which is normal on GeForce.

    `recovery_action` is the driver's own word (`none`, `gpu_reset`, `node_reboot`, `drain_p2p` …); `xid` the last
    fatal XID; `lost` is set for a GPU that fell off the bus.
    """

    lost: bool = False
    ecc_enabled: bool | None = None
    ecc_uncorrected: int | None = None
    remapped_rows_pending: bool | None = None
    remapped_rows_failure: bool | None = None
    retired_pages_pending: bool | None = None
    recovery_action: str | None = None
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU or one MIG instance. `memory_reserved_bytes` is the driver's share, which torch does not report.

    `mig_enabled` marks a physical GPU that is split into instances; no engine runs on the whole of such a GPU.
    """

    uuid: str
    name: str | None = None
    compute_capability: tuple[int, int] | None = None
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_free_bytes: int | None = None
    nvlink_peers: tuple[str, ...] = ()
    pci_bus_id: str | None = None
    numa_node: int | None = None
    mig: Mig | None = None
    mig_enabled: bool = False
    compute_mode: str | None = None
    mps_clients: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    health: Health = Health()

    @property
    def usable_bytes(self) -> int | None:
        """Bytes as torch reports them: total minus the driver's share."""
        if self.memory_total_bytes is None:
            return None
        return self.memory_total_bytes - (self.memory_reserved_bytes or 0)

    @property
    def fault(self) -> str | None:
        """The reason for which no engine may start on this GPU; None for a sound GPU. An absent field is no fault."""
        health = self.health
        if health.lost:
            return "fell off the bus"
        if health.remapped_rows_failure:
            return "row remapping failed"
        if health.remapped_rows_pending:
            return "row remapping pends a reset"
        if health.retired_pages_pending:
            return "page retirement pends a reset"
        if health.recovery_action not in (None, "none"):
            return f"the driver requires {health.recovery_action}"
        if health.xid is not None:
            return f"fatal XID {health.xid}"
        if self.compute_mode == "prohibited":
            return "compute mode is prohibited"
        return None


def _distinct(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    named = [gpu.uuid.casefold() for gpu in gpus]
    if twice := [gpu.uuid for index, gpu in enumerate(gpus) if gpu.uuid.casefold() in named[:index]]:
        raise ValueError(f"the GPU {twice[0]} is listed twice")
    return gpus


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hardware that a plan may use. `cuda_driver` is for example 13000 for CUDA 13.0.

    `unified_memory`: GPU and host share one memory; free GPU memory is `memory_available_bytes`. `nvml_error`: the
    reason why GPUs are missing; None after a complete read. `gpus_taken` counts GPUs that other endpoints use: a node
    with all GPUs taken still is a node with GPUs.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    gpus: Annotated[tuple[Gpu, ...], AfterValidator(_distinct)] = ()
    cpu_cores: int | None = None
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    driver: str | None = None
    cuda_driver: int | None = None
    unified_memory: bool = False
    nvml_error: str | None = None
    gpus_taken: int = 0

    def without(self, uuids: frozenset[str]) -> Inventory:
        """The same node without these GPUs, for instance because another endpoint uses them."""
        left = tuple(gpu for gpu in self.gpus if gpu.uuid not in uuids)
        return replace(self, gpus=left, gpus_taken=self.gpus_taken + len(self.gpus) - len(left))


_DOCUMENT: Final = TypeAdapter(Inventory)


def to_json(inventory: Inventory) -> bytes:
    """The inventory as indented JSON; `from_json` returns the same value."""
    return _DOCUMENT.dump_json(inventory, indent=2)


def from_json(document: bytes) -> Inventory:
    """The inventory from the JSON of `to_json`. Raises pydantic's ValidationError with the path of each wrong field."""
    return _DOCUMENT.validate_json(document)

"""NVML: reads GPUs and their faults through NVIDIA's management library; the only module that does.

A field that fails is None and never spoils the rest. NVML ignores CUDA_VISIBLE_DEVICES, may hang with a broken
driver, and answers NOT_SUPPORTED to many calls on GeForce and unified-memory parts. Every read therefore has a
deadline.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

import pynvml

from pareta_agent.hardware.host import read_host
from pareta_agent.hardware.inventory import Gpu, GpuProcess, Health, Inventory, Mig
from pareta_agent.hardware.sample import GpuFault, Sample

T = TypeVar("T")
NVML_DEADLINE_S: Final = 15.0
_RECOVERY: Final = {
    pynvml.NVML_GPU_RECOVERY_ACTION_NONE: "none",
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "gpu_reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "node_reboot",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: "drain_p2p",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "drain_and_reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_BUS_RESET: "bus_reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_SYSTEM_REBOOT: "system_reboot",
}
_COMPUTE_MODES: Final = {
    pynvml.NVML_COMPUTEMODE_DEFAULT: "default",
    pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: "exclusive_process",
    pynvml.NVML_COMPUTEMODE_PROHIBITED: "prohibited",
}
_GONE: Final = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)


def read_inventory(deadline_s: float = NVML_DEADLINE_S) -> Inventory:
    """GPUs, driver and host at this moment. Blocks for at most about `deadline_s` seconds: call it in a thread.

    Without NVML, or after the deadline, the inventory has no GPUs and `nvml_error` holds the reason.
    """
    host = read_host()
    part = _in_time(_read, deadline_s, lambda why: Inventory(nvml_error=why))
    return replace(
        part,
        cpu_cores=host.cpu_cores,
        memory_bytes=host.memory_bytes,
        memory_available_bytes=host.memory_available_bytes,
    )


def read_samples(deadline_s: float = NVML_DEADLINE_S) -> tuple[Sample, ...]:
    """Load, temperature, power and free memory of each GPU, for metrics; empty without NVML.

    Blocks for at most about `deadline_s` seconds.
    """
    return _in_time(
        lambda: tuple(_sample(_Device(handle)) for handle in _handles()), deadline_s, lambda _why: ()
    )


def follow_faults(
    reported: Callable[[GpuFault], None], stopped: threading.Event, poll_s: float = 1.0
) -> None:
    """Reports each critical XID of any GPU until `stopped`. Blocks: requires a thread of its own, which is never
    joined.

    Returns at once without NVML, or with a driver without events.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    events = _ask(pynvml.nvmlEventSetCreate)
    for handle in _handles():
        _ask(pynvml.nvmlDeviceRegisterEvents, handle, pynvml.nvmlEventTypeXidCriticalError, events)
    while events is not None and not stopped.is_set():
        try:
            event = pynvml.nvmlEventSetWait_v2(events, int(poll_s * 1000))
            reported(GpuFault(_Device(event.device).uuid or "", int(event.eventData)))
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:  # a lost GPU makes it answer at once, for ever
                stopped.wait(poll_s)
    pynvml.nvmlShutdown()


def _in_time(work: Callable[[], T], deadline_s: float, otherwise: Callable[[str], T]) -> T:
    """Runs `work` with NVML open, in a thread that is abandoned if the driver hangs."""
    answer: list[T] = []
    reasons = ["NVML did not answer in time"]

    def run() -> None:
        try:
            pynvml.nvmlInit()
            try:
                answer.append(work())
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            reasons[0] = str(error)

    thread = threading.Thread(target=run, name="nvml", daemon=True)
    thread.start()
    thread.join(deadline_s)
    return answer[0] if answer else otherwise(reasons[0])


def _read() -> Inventory:
    handles = _handles()
    devices = [_Device(handle) for handle in handles]
    gpus = [_gpu(index, device) for index, device in enumerate(devices)]
    peers = _nvlink_peers(devices)
    gpus = [replace(gpu, nvlink_peers=peers.get(gpu.uuid, ())) for gpu in gpus]
    instances = [
        instance
        for gpu, device in zip(gpus, devices, strict=True)
        if gpu.mig_enabled
        for instance in _mig_instances(gpu, device)
    ]
    return Inventory(
        gpus=(*gpus, *instances),
        driver=_text(_ask(pynvml.nvmlSystemGetDriverVersion)),
        cuda_driver=_ask(pynvml.nvmlSystemGetCudaDriverVersion_v2),
        unified_memory=bool(devices) and all(device.memory_not_supported for device in devices),
    )


def _handles() -> list[Any]:
    """One handle a GPU; None for a GPU that the bus lists and the driver cannot open."""
    count = _ask(pynvml.nvmlDeviceGetCount) or 0
    return [_ask(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(count)]


class _Device:
    """A GPU's handle that returns None instead of raising, and stores whether the GPU fell off the bus."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.lost = handle is None
        self.memory_not_supported = False

    def ask(self, name: str, *arguments: Any) -> Any:
        if self.handle is None:
            return None
        try:
            return getattr(pynvml, name)(self.handle, *arguments)
        except pynvml.NVMLError as error:
            self.lost = self.lost or error.value in _GONE
            return None

    @property
    def uuid(self) -> str | None:
        return _text(self.ask("nvmlDeviceGetUUID"))

    def memory(self) -> tuple[int, int, int] | None:
        """Total, reserved and free bytes; reserved is 0 on drivers before memory info v2."""
        if self.handle is None:
            return None
        if (newer := self.ask("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)) is not None:
            return newer.total, newer.reserved, newer.free
        try:
            older = pynvml.nvmlDeviceGetMemoryInfo(self.handle)
        except pynvml.NVMLError as error:
            self.memory_not_supported = error.value == pynvml.NVML_ERROR_NOT_SUPPORTED
            return None
        return older.total, 0, older.free


def _gpu(index: int, device: _Device) -> Gpu:
    total, reserved, free = device.memory() or (None, None, None)
    capability = device.ask("nvmlDeviceGetCudaComputeCapability")
    pci = device.ask("nvmlDeviceGetPciInfo_v3")
    mode = device.ask("nvmlDeviceGetMigMode")
    clients = device.ask("nvmlDeviceGetMPSComputeRunningProcesses_v3")
    gpu = Gpu(
        uuid=device.uuid or f"index-{index}",
        name=_text(device.ask("nvmlDeviceGetName")),
        compute_capability=(capability[0], capability[1]) if capability else None,
        memory_total_bytes=total,
        memory_reserved_bytes=reserved,
        memory_free_bytes=free,
        pci_bus_id=_text(pci.busId) if pci else None,
        numa_node=device.ask("nvmlDeviceGetNumaNodeId"),
        mig_enabled=bool(mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE),
        compute_mode=_COMPUTE_MODES.get(device.ask("nvmlDeviceGetComputeMode")),
        mps_clients=None if clients is None else len(clients),
        processes=_processes(device),
        health=_health(device),
    )
    return replace(gpu, health=replace(gpu.health, lost=device.lost))


def _health(device: _Device) -> Health:
    ecc = device.ask("nvmlDeviceGetEccMode")
    rows = device.ask("nvmlDeviceGetRemappedRows")
    pages = device.ask("nvmlDeviceGetRetiredPagesPendingStatus")
    return Health(
        ecc_enabled=None if ecc is None else bool(ecc[0]),
        ecc_uncorrected=device.ask(
            "nvmlDeviceGetTotalEccErrors",
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        ),
        remapped_rows_pending=None if rows is None else bool(rows[2]),
        remapped_rows_failure=None if rows is None else bool(rows[3]),
        retired_pages_pending=None if pages is None else bool(pages),
        recovery_action=_recovery_action(device),
    )


def _recovery_action(device: _Device) -> str | None:
    fields = device.ask("nvmlDeviceGetFieldValues", [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if not fields or fields[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    action = int(fields[0].value.uiVal)
    return _RECOVERY.get(action, f"action_{action}")


def _processes(device: _Device) -> tuple[GpuProcess, ...] | None:
    found = device.ask("nvmlDeviceGetComputeRunningProcesses_v3")
    if found is None:
        return None
    return tuple(GpuProcess(int(one.pid), one.usedGpuMemory) for one in found)


def _nvlink_peers(devices: list[_Device]) -> dict[str, tuple[str, ...]]:
    """The NVLink peers of each GPU: the peer-to-peer status by which vLLM selects its custom all-reduce."""

    def linked(a: _Device, b: _Device) -> bool:
        if b.handle is None:
            return False
        status = a.ask("nvmlDeviceGetP2PStatus", b.handle, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
        return bool(status == pynvml.NVML_P2P_STATUS_OK)

    named = [(device.uuid, device) for device in devices]
    return {
        uuid: tuple(other for other, peer in named if other and peer is not device and linked(device, peer))
        for uuid, device in named
        if uuid
    }


def _mig_instances(parent: Gpu, device: _Device) -> list[Gpu]:
    instances = []
    for index in range(device.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
        handle = device.ask("nvmlDeviceGetMigDeviceHandleByIndex", index)
        if handle is None:
            continue
        instance = _Device(handle)
        total, reserved, free = instance.memory() or (None, None, None)
        name = _text(instance.ask("nvmlDeviceGetName"))
        profile = re.search(r"MIG (\S+)", name or "")
        instances.append(
            Gpu(
                uuid=instance.uuid or f"{parent.uuid}/{index}",
                name=name,
                compute_capability=parent.compute_capability,
                memory_total_bytes=total,
                memory_reserved_bytes=reserved,
                memory_free_bytes=free,
                pci_bus_id=parent.pci_bus_id,
                numa_node=parent.numa_node,
                mig=Mig(parent.uuid, profile[1] if profile else None),
                compute_mode=parent.compute_mode,
                processes=_processes(instance),
                health=parent.health,
            )
        )
    return instances


def _sample(device: _Device) -> Sample:
    use = device.ask("nvmlDeviceGetUtilizationRates")
    memory = device.memory()
    return Sample(
        uuid=device.uuid or "",
        busy_ratio=use.gpu / 100 if use else None,
        memory_free_bytes=memory[2] if memory else None,
        temperature_celsius=device.ask("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        power_milliwatts=device.ask("nvmlDeviceGetPowerUsage"),
        lost=device.lost,
    )


def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

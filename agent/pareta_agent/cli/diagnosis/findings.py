"""Doctor values: the facts of a host, and the finding of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pareta_agent.hardware.inventory import Inventory

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The facts of a host. None: unknown. An `…_error` is the reason in one sentence."""

    inventory: Inventory
    nvidia_device: bool
    shm_free_bytes: int | None
    open_files: int
    disk_path: str
    disk_free_bytes: int | None
    host: str
    port: int
    port_error: str | None
    own_node_at: str | None
    clock_synchronized: bool | None
    clock_offset_s: float | None
    catalog_tasks: int | None
    catalog_error: str | None
    plane_url: str | None
    plane_error: str | None
    engine_command: str | None
    engine_path: str | None
    engine_version: str | None
    engine_platform: str | None
    engine_error: str | None
    engine_cuda: int | None
    compiler: str | None
    python_headers: bool | None
    nvcc: str | None
    kernels_wrong: tuple[str, ...] | None
    kernels_compared: int
    tls_days: float | None
    tls_error: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `remedy` is empty at level ok."""

    check: str
    level: Level
    message: str
    remedy: str = ""

"""What `pareta-agent doctor` reads, and what it answers. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pareta_agent.hardware.inventory import Inventory

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was read. None is what could not be read; an `…_error` says why in one sentence."""

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
    """One line: what was looked at, how it is, and what to do (empty when all is well)."""

    check: str
    level: Level
    message: str
    remedy: str = ""

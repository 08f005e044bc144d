"""Doctor checks: map the facts of a host to one finding per check. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pareta_agent.cli.diagnosis.engine_checks import kernels, toolchain
from pareta_agent.cli.diagnosis.findings import Finding, HostFacts, Level
from pareta_agent.hardware.inventory import GIB

_NEEDED_SHM_BYTES: Final = GIB
_NEEDED_FILES: Final = 65536
_LEAST_FILES: Final = 4096
_LEAST_DISK_BYTES: Final = 2 * GIB
_COMFORTABLE_DISK_BYTES: Final = 20 * GIB
_CERTIFICATE_DAYS: Final = 14
_SMALL_OFFSET_S: Final = 2.0
_LARGE_OFFSET_S: Final = 60.0


def findings(facts: HostFacts) -> tuple[Finding, ...]:
    """Every check, in the order of a cold start."""
    return tuple(_all(facts))


def _all(facts: HostFacts) -> Iterator[Finding]:
    yield nvml(facts)
    yield driver(facts)
    yield from gpus(facts)
    yield shared_memory(facts)
    yield open_files(facts)
    yield disk(facts)
    yield port(facts)
    yield tls(facts)
    yield clock(facts)
    yield registry(facts)
    yield plane(facts)
    yield engine(facts)
    yield toolchain(facts)
    yield kernels(facts)


def nvml(facts: HostFacts) -> Finding:
    inventory = facts.inventory
    if inventory.nvml_error is None:
        return Finding("nvml", "ok", f"{len(inventory.gpus)} GPUs")
    if facts.nvidia_device:
        return Finding(
            "nvml",
            "fail",
            f"this host has an NVIDIA device, and NVML fails: {inventory.nvml_error}",
            "load the driver; for a container add the `utility` capability (NVIDIA_DRIVER_CAPABILITIES)",
        )
    return Finding("nvml", "ok", "no NVIDIA device: engines run on the CPU")


def driver(facts: HostFacts) -> Finding:
    """A CUDA build requires a driver of the same CUDA major version or newer."""
    have, build = facts.inventory.cuda_driver, facts.engine_cuda
    if have is None:
        return Finding("driver", "ok", "no GPU, no driver required")
    said = f"driver {facts.inventory.driver} supports CUDA {have // 1000}.{have % 1000 // 10}"
    if build is None or facts.engine_platform != "cuda":
        return Finding("driver", "ok", said)
    if have // 1000 < build // 1000:
        return Finding(
            "driver",
            "fail",
            f"{said}, the engine is built for CUDA {build // 1000}",
            f"install a driver for CUDA {build // 1000}, or an engine built for CUDA {have // 1000}",
        )
    return Finding("driver", "ok", f"{said}, the engine is built for CUDA {build // 1000}")


def gpus(facts: HostFacts) -> Iterator[Finding]:
    """One line for each GPU with a fault."""
    for gpu in facts.inventory.gpus:
        if gpu.fault is not None:
            yield Finding(
                "gpu",
                "fail",
                f"{gpu.uuid}: {gpu.fault}",
                "reset the GPU (`nvidia-smi --gpu-reset`) or replace it",
            )


def shared_memory(facts: HostFacts) -> Finding:
    """Ranks of one engine communicate through /dev/shm. Docker's default is 64 MiB."""
    free = facts.shm_free_bytes
    if free is None:
        return Finding("shm", "warn", "/dev/shm cannot be read", "mount a tmpfs at /dev/shm")
    if free >= _NEEDED_SHM_BYTES:
        return Finding("shm", "ok", f"{free / GIB:.1f} GiB free in /dev/shm")
    level: Level = "fail" if len(facts.inventory.gpus) > 1 else "warn"
    return Finding(
        "shm", level, f"only {free / 2**20:.0f} MiB free in /dev/shm", "run the container with --shm-size 8g"
    )


def open_files(facts: HostFacts) -> Finding:
    if facts.open_files >= _NEEDED_FILES:
        return Finding("ulimits", "ok", f"{facts.open_files:,} open files allowed")
    level: Level = "warn" if facts.open_files >= _LEAST_FILES else "fail"
    return Finding(
        "ulimits",
        level,
        f"{facts.open_files:,} open files allowed, two per stream",
        f"raise the limit to {_NEEDED_FILES} (LimitNOFILE= in systemd, --ulimit nofile in Docker)",
    )


def disk(facts: HostFacts) -> Finding:
    free = facts.disk_free_bytes
    if free is None:
        return Finding(
            "disk", "fail", f"{facts.disk_path} is not writable", "set PARETA_HOME to a writable directory"
        )
    said = f"{free / GIB:.1f} GiB free under {facts.disk_path}"
    if free >= _COMFORTABLE_DISK_BYTES:
        return Finding("disk", "ok", said)
    level: Level = "warn" if free >= _LEAST_DISK_BYTES else "fail"
    return Finding(
        "disk", level, said, "free disk space, or set PARETA_HOME and PARETA_CACHE to a larger disk"
    )


def port(facts: HostFacts) -> Finding:
    where = f"{facts.host}:{facts.port}"
    if facts.own_node_at is not None:
        return Finding("port", "ok", f"the node of this home listens at {facts.own_node_at}")
    if facts.port_error is None:
        return Finding("port", "ok", f"{where} is free")
    return Finding(
        "port",
        "fail",
        f"{where}: {facts.port_error}",
        "set another port with --port, or stop the program that listens on it",
    )


def tls(facts: HostFacts) -> Finding:
    """The validity of the port's certificate, today and in the next weeks."""
    days = facts.tls_days
    if facts.tls_error is not None:
        return Finding("tls", "fail", facts.tls_error, "set a certificate and its own key, both in PEM")
    if days is None:
        return Finding("tls", "ok", "plain HTTP: no certificate is set")
    if days > _CERTIFICATE_DAYS:
        return Finding("tls", "ok", f"the certificate is valid for {days:.0f} days")
    said = f"has {days:.1f} days left" if days > 0 else "has expired"
    level: Level = "warn" if days > 0 else "fail"
    return Finding(
        "tls", level, f"the certificate {said}", "renew the certificate; a running node reads the new files"
    )


def clock(facts: HostFacts) -> Finding:
    """Usage records carry wall time, leases do not. A plane refuses tokens when the clocks differ too much."""
    offset = facts.clock_offset_s
    if offset is not None and abs(offset) > _SMALL_OFFSET_S:
        level: Level = "fail" if abs(offset) > _LARGE_OFFSET_S else "warn"
        return Finding("clock", level, f"{offset:+.0f} s from the plane's clock", "run an NTP client")
    if facts.clock_synchronized is False:
        return Finding("clock", "warn", "the kernel's clock is not synchronized", "run an NTP client")
    return Finding("clock", "ok", "synchronized" if facts.clock_synchronized else "no plane to compare with")


def registry(facts: HostFacts) -> Finding:
    if facts.catalog_error is not None:
        return Finding(
            "registry", "fail", facts.catalog_error, "`pareta-registry check` lists every line with an error"
        )
    return Finding("registry", "ok", f"{facts.catalog_tasks} tasks in the catalog")


def plane(facts: HostFacts) -> Finding:
    if facts.plane_url is None:
        return Finding("plane", "ok", "embedded: no plane.url is set")
    if facts.plane_error is not None:
        return Finding(
            "plane",
            "fail",
            f"{facts.plane_url}: {facts.plane_error}",
            "check plane.url, the network and the node token",
        )
    return Finding("plane", "ok", f"{facts.plane_url} answers")


def engine(facts: HostFacts) -> Finding:
    if facts.engine_command is not None:
        return Finding("engine", "ok", f"{facts.engine_command} replaces vLLM")
    if facts.engine_error is not None:
        return Finding(
            "engine",
            "fail",
            facts.engine_error,
            "run `pareta-agent engine install`, or set --engine-python to an interpreter that has vLLM",
        )
    if facts.engine_path is None:
        return Finding(
            "engine",
            "warn",
            "no engine is installed",
            "run `pareta-agent engine install` (`serve` does, too)",
        )
    said = f"vLLM {facts.engine_version} for {facts.engine_platform}"
    if facts.engine_platform == "cpu" and facts.inventory.gpus:
        return Finding(
            "engine", "warn", f"{said}, on a host with GPUs", "run `pareta-agent engine install --cuda`"
        )
    if facts.engine_platform == "cuda" and not facts.inventory.gpus:
        return Finding(
            "engine", "fail", f"{said}, on a host without a GPU", "run `pareta-agent engine install --cpu`"
        )
    return Finding("engine", "ok", said)

"""Doctor facts: reads the state of a host for `pareta-agent doctor`.

Readings are independent, never raise, and have a deadline.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import shutil
import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import aiohttp

from pareta_agent import config, processes
from pareta_agent.catalog.source import read_catalog
from pareta_agent.cli.diagnosis.findings import HostFacts
from pareta_agent.clock import SystemClock
from pareta_agent.config import Settings
from pareta_agent.engine.install.install import installed
from pareta_agent.engine.install.interpreter import inspect
from pareta_agent.errors import AgentError, ConfigError, HostError
from pareta_agent.hardware.nvml import read_inventory
from pareta_agent.kernel_check import check as kernels
from pareta_agent.node.engine_interpreter import EngineProgram
from pareta_agent.node.settings_map import catalog_place, certificate
from pareta_agent.node.status.admin_socket import ask
from pareta_agent.planning.support.probe import SUPPORT

_PLANE_DEADLINE_S: Final = 5.0
_CUDA_DEADLINE_S: Final = 30.0
_TIMEX_BYTES: Final = 256
_TIME_ERROR: Final = 5
_CUDA_OF_TORCH: Final = """
import importlib.util, json, pathlib
spec = importlib.util.find_spec("torch")
found = {}
if spec and spec.origin:
    exec(pathlib.Path(spec.origin).with_name("version.py").read_text(), found)
print(json.dumps(found.get("cuda")))
"""


_HEADERS: Final = """
import pathlib, sysconfig
print(pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())
"""


async def read_facts(settings: Settings) -> HostFacts:
    """All facts. The slow readings run concurrently, so the call takes as long as the slowest reading."""
    inventory, engine, plane, node = await asyncio.gather(
        asyncio.to_thread(read_inventory), _engine(settings), _plane(settings.plane.url), _node(settings)
    )
    tasks, catalog_error = await _catalog(settings)
    path, version, platform, engine_error, cuda = engine
    tls_days, tls_error = _tls(settings)
    device = EngineProgram(settings, inventory, lambda _event: None).device
    known = kernels.checked(settings.cache / SUPPORT, version, device) if version else None
    return HostFacts(
        inventory=inventory,
        nvidia_device=Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists(),
        shm_free_bytes=_free(Path("/dev/shm")),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        disk_path=str(settings.home),
        disk_free_bytes=_free(settings.home),
        host=settings.host,
        port=settings.port,
        port_error=None if node else _port_error(settings.host, settings.port),
        own_node_at=node,
        clock_synchronized=_clock_synchronized(),
        clock_offset_s=plane[1],
        catalog_tasks=tasks,
        catalog_error=catalog_error,
        plane_url=settings.plane.url,
        plane_error=plane[0],
        engine_command=settings.engine.command,
        engine_path=path,
        engine_version=version,
        engine_platform=platform,
        engine_error=engine_error,
        engine_cuda=cuda,
        compiler=_compiler(),
        python_headers=await _python_headers(path),
        nvcc=_nvcc(),
        kernels_wrong=tuple(map(str, known.wrong)) if known else None,
        kernels_compared=known.compared if known else 0,
        tls_days=tls_days,
        tls_error=tls_error,
    )


def _tls(settings: Settings) -> tuple[float | None, str | None]:
    """The certificate's remaining days, or the reason against its use; both None without TLS."""
    try:
        found = certificate(settings)
    except ConfigError as error:
        return None, error.message
    return ((found.expires_s - time.time()) / 86400 if found else None), None


async def _engine(settings: Settings) -> tuple[str | None, str | None, str | None, str | None, int | None]:
    """Path, version, platform, error, and the CUDA version of its torch build."""
    path = settings.engine.python
    if path is None:
        whole = [engine.python for engine in installed(settings.cache) if engine.python is not None]
        path = whole[-1] if whole else None
    if path is None:
        return None, None, None, None, None
    try:
        found = await inspect(path)
    except HostError as error:
        return str(path), None, None, error.message, None
    return str(path), found.version, found.platform, None, await _cuda_of_torch(path)


def _compiler() -> str | None:
    """The C compiler, searched in Triton's order."""
    names = [processes.environment().get("CC", ""), "gcc", "clang", "cc"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _nvcc() -> str | None:
    """The CUDA compiler, searched in FlashInfer's order."""
    homes = [processes.environment().get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [*(str(Path(home, "bin", "nvcc")) for home in homes if home), "nvcc", "/usr/local/cuda/bin/nvcc"]
    return next((found for place in places if (found := shutil.which(place))), None)


async def _python_headers(python: str | None) -> bool | None:
    """True if the headers of the engine's interpreter are installed; None if unknown."""
    if python is None:
        return None
    try:
        done = await processes.run([python, "-I", "-c", _HEADERS], timeout_s=_CUDA_DEADLINE_S)
    except (TimeoutError, OSError):
        return None
    return done.output.strip() == "True" if done.returncode == 0 else None


async def _cuda_of_torch(path: Path) -> int | None:
    """The CUDA version, such as 13000, from torch's version file: an import would take seconds and a gigabyte."""
    try:
        done = await processes.run([str(path), "-I", "-c", _CUDA_OF_TORCH], timeout_s=_CUDA_DEADLINE_S)
        text = json.loads(done.output.splitlines()[-1])
        major, minor = str(text).split(".")[:2]
        return int(major) * 1000 + int(minor) * 10
    except (TimeoutError, OSError, ValueError, IndexError):
        return None


async def _plane(url: str | None) -> tuple[str | None, float | None]:
    """The plane's failure, None if the plane answers; and the seconds by which this clock is ahead of the plane's."""
    if url is None:
        return None, None
    try:
        timeout = aiohttp.ClientTimeout(total=_PLANE_DEADLINE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url.rstrip('/')}/livez") as said,
        ):
            date = said.headers.get("Date")
            offset = time.time() - parsedate_to_datetime(date).timestamp() if date else None
            return (f"answers {said.status}" if said.status >= 500 else None), offset
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return str(error) or type(error).__name__, None


async def _node(settings: Settings) -> str | None:
    """The address of the running node of this home, None if no node runs. The node's own port is no conflict."""
    try:
        status = await ask(config.run_dir(settings.home) / "agent.sock", "GET", "/status")
    except HostError:
        return None
    return status and str(status["base_url"])


async def _catalog(settings: Settings) -> tuple[int | None, str | None]:
    try:
        return len((await read_catalog(catalog_place(settings), SystemClock())).tasks), None
    except AgentError as error:
        return None, str(error).splitlines()[0]


def _free(path: Path) -> int | None:
    """Free bytes at `path`, or at the nearest existing parent."""
    place = next((one for one in (path, *path.parents) if one.exists()), path)
    if not place.is_dir() or not os.access(place, os.W_OK):
        return None
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _port_error(host: str, port: int) -> str | None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


def _clock_synchronized() -> bool | None:
    """The kernel's synchronization state (adjtimex without modes only reads); None if the call is not permitted."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR

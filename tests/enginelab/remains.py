"""What there is of an engine, and what is left of it when it is gone: processes, files, shared memory, bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pareta_agent import config
from pareta_agent import processes as launch
from pareta_agent.engine.process.engine_process import marked, shared_memory
from pareta_agent.engine.process.process_record import Intents
from pareta_agent.engine.process.run_dir import run_dir_of
from pareta_agent.engine.spec import EngineSettings

_SHM = Path("/dev/shm")
_TITLE, _SPAWNED, _STANDBY = b"VLLM::", b"multiprocessing.spawn", b"standby_main.py"


@dataclass(frozen=True, slots=True)
class Remains:
    """Counts of what should be gone; `memory_bytes` is what these processes and segments hold."""

    processes: int = 0
    files: int = 0
    segments: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Remains) -> Remains:
        return Remains(
            self.processes + other.processes,
            self.files + other.files,
            self.segments + other.segments,
            self.memory_bytes + other.memory_bytes,
        )


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine as it was seen: the members of its group by role, its private directory, its shared memory."""

    generation: int
    members: dict[str, launch.Stat]
    directory: Path
    segments: frozenset[str]
    marker: str

    @property
    def leader(self) -> launch.Stat:
        return self.members["server"]

    def left(self) -> Remains:
        """What of it is still there."""
        alive = {f.pid for f in self.members.values() if launch.adopt(f.pid, f.started) is not None}
        pids = alive | {found.pid for found in marked(self.marker)}
        return remains(pids, _under(self.directory), self.segments)

    async def gone(self) -> Remains:
        """Waits until nothing is left, or for a while; what is left then."""
        return await settled(self.left)


async def settled(look: Callable[[], Remains], within_s: float = 30.0) -> Remains:
    """Looks until it finds nothing, or for `within_s`; what it found last."""
    end_s = asyncio.get_running_loop().time() + within_s
    while (left := look()) != Remains() and asyncio.get_running_loop().time() < end_s:
        await asyncio.sleep(0.05)
    return left


def home_settings(home: Path) -> EngineSettings:
    """Where a node under `home` keeps its engines, and how it marks them."""
    home_id = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    run_dir = config.run_dir(home)
    return EngineSettings(home_id, run_dir, home / "engines", home / "log", home / "engine-cache")


def seen(settings: EngineSettings, endpoint: str) -> Engine | None:
    """The engine of the endpoint's first replica that runs now."""
    intent = Intents(settings.state_dir).read(endpoint, 0)
    if intent is None or intent.pid is None or intent.ended:
        return None
    group = [found for found in launch.processes() if found.group == intent.pid]
    if not any(found.pid == intent.pid for found in group):
        return None
    return Engine(
        intent.generation,
        _by_role(group),
        run_dir_of(settings, endpoint, 0, intent.generation).directory,
        frozenset(segment for found in group for segment in shared_memory(found.pid)),
        intent.marker,
    )


def home_left(settings: EngineSettings, segments: Iterable[str] = ()) -> Remains:
    """What all engines of a home left together."""
    pids = {found.pid for found in marked(settings.home_id)}
    return remains(pids, _under(settings.run_dir), segments)


def remains(pids: set[int], files: Iterable[Path], segments: Iterable[str]) -> Remains:
    """Counts them; of the segments those that are there."""
    there = [_SHM / name for name in segments if (_SHM / name).exists()]
    held = sum(_resident_bytes(pid) for pid in pids) + sum(path.stat().st_size for path in there)
    return Remains(len(pids), len(list(files)), len(there), held)


def _under(directory: Path) -> list[Path]:
    # `rglob` fails where a folder goes while it looks
    return [Path(at, name) for at, folders, files in os.walk(directory) for name in (*folders, *files)]


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def _by_role(group: Sequence[launch.Stat]) -> dict[str, launch.Stat]:
    """What each is for, by its program and who started it: a title may not be set yet, or never.

    Programs that are asked something while an engine imports (`uname`, `lscpu`) have no role: they are gone at once.
    """
    members: dict[str, launch.Stat] = {}
    standby = any(found.pid == found.group and _STANDBY in _line(found) for found in group)
    for found in sorted(group, key=lambda found: (found.started, found.pid)):
        role, number = _role(found, members, computing=_STANDBY if standby else _SPAWNED), 2
        while role in members:
            role, number = f"{role.split()[0]} {number}", number + 1
        if role:
            members[role] = found
    return members


def _role(found: launch.Stat, members: Mapping[str, launch.Stat], computing: bytes) -> str:
    """`computing`: what a process that computes has in its command line until it has a title."""
    if found.pid == found.group:
        return "server"
    line = _line(found)
    if b"resource_tracker" in line:
        return "tracker"
    if computing not in line and not line.startswith(_TITLE):
        return ""
    core = members.get("core")
    return "worker" if core is not None and found.parent == core.pid else "core"


def _line(found: launch.Stat) -> bytes:
    try:
        return Path(f"/proc/{found.pid}/cmdline").read_bytes()
    except OSError:
        return b""

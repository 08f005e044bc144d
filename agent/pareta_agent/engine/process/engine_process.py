"""Engine process: starts one engine as a process group, with a record on disk, and ends the whole group.

An engine here is a program that runs, writes a log, and must be gone at the end; HTTP is out of scope.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from pareta_agent import processes
from pareta_agent.engine.process import compilers, stacks
from pareta_agent.engine.process.process_record import Intent, Intents
from pareta_agent.engine.process.run_dir import RunDir
from pareta_agent.errors import HostError

_KILL_DEADLINE_S = 15.0
_FOLLOWS_S = 1.5


class EngineProcess:
    """A running engine and the record on disk."""

    def __init__(self, process: processes.Process, run_dir: RunDir, intents: Intents, intent: Intent) -> None:
        self._process = process
        self._run_dir = run_dir
        self._intents = intents
        self._cores: list[processes.Process] = []
        self.intent = intent

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    async def wait(self) -> int | None:
        """Waits until the leader ends, or until a core has ended and the leader does not follow. vLLM's leader does
        not while a caller waits for an answer that cannot come. Returns the leader's exit status, None where unknown.
        """
        leader, *cores = (asyncio.ensure_future(each.wait()) for each in (self._process, *self._cores))
        try:
            await asyncio.wait({leader, *cores}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({leader}, timeout=_FOLLOWS_S)
            return leader.result() if leader.done() else None
        finally:
            await cancel(leader, *cores)

    def notice_cores(self) -> None:
        """Records the leader's computing children, by size; the engine can run without small helpers."""
        children = {
            found: _resident_pages(found.pid) for found in self._process.group() if found.parent == self.pid
        }
        least = max(children.values(), default=0) / 2
        cores = [found for found, pages in children.items() if pages >= least]
        self._cores = [processes.Process(found.pid, found.started) for found in cores]

    def notice_segments(self) -> None:
        """Records the present segments of shared memory: after a sudden death, no query is possible."""
        if new := self._segments() - set(self.intent.segments):
            self._record(segments=tuple(sorted({*self.intent.segments, *new})))

    def mark_ready(self, version: str | None) -> None:
        """Records that the engine served, and the shared-memory segments in use, for a later cleanup."""
        self._record(ready=True, version=version, segments=tuple(sorted(self._segments())))

    async def stop(self, *, term_s: float, hurry: asyncio.Event) -> bool:
        """Sends SIGTERM to the leader, waits `term_s` (0: none) or until `hurry`, then SIGKILL until all are gone;
        then sweeps.

        False when a process survived SIGKILL (stuck in a driver); the record of held resources then stays.
        """
        segments = {*self.intent.segments, *self._segments()}
        if term_s > 0:
            self._process.signal(SIGTERM)
            await first(self._process.wait(), hurry.wait(), timeout_s=term_s)
        segments |= self._segments()
        gone = await self._process.kill_group(_KILL_DEADLINE_S)
        gone = await end_strays(partial(marked, self.intent.marker), _KILL_DEADLINE_S) and gone
        if gone:
            self._run_dir.sweep(segments)
            self._record(ended=True)
        return gone

    async def stacks(self, python: Path | None) -> Path | None:
        """Takes the stacks of all processes, which the engine may not survive; returns the file with the stacks."""
        return await stacks.dump(self._process, self._run_dir, python)

    def compiling(self) -> bool:
        """True while a compiler runs among the engine's processes. Reads /proc."""
        return compilers.compiling(self._process)

    def kill(self) -> None:
        """SIGKILL to the group, without waiting."""
        self._process.signal_group(SIGKILL)

    def _segments(self) -> set[str]:
        return {segment for member in self._process.group() for segment in shared_memory(member.pid)}

    def _record(self, **changes: object) -> None:
        self.intent = dataclasses.replace(self.intent, **changes)  # type: ignore[arg-type]
        self._intents.write(self.intent)


async def start(
    run_dir: RunDir,
    argv: list[str],
    env: dict[str, str],
    cwd: Path | None,
    intents: Intents,
    intent: Intent,
    cpus: Sequence[int] = (),
) -> EngineProcess:
    """Writes the intent, starts the program in a separate session, and names the process in the record.

    The engine runs on `cpus`, by number, or wherever this process may. Core dumps are off, for a dump would hold
    prompts. Raises OSError when the program cannot be started or the record cannot be written.
    """
    intents.write(intent)
    process = await processes.spawn(
        argv,
        env=env,
        cwd=cwd,
        log_path=run_dir.log,
        rlimits={"core": 0, "nofile": processes.OPEN_FILES},
        cpus=cpus,
        beside=run_dir.log_keeper,
    )
    return record(process, run_dir, intents, intent)


def record(process: processes.Process, run_dir: RunDir, intents: Intents, intent: Intent) -> EngineProcess:
    """Names the process in the durable record."""
    engine = EngineProcess(process, run_dir, intents, intent)
    engine._record(pid=process.pid, started=process.started)
    return engine


async def adopt(process: processes.Process, run_dir: RunDir, intents: Intents) -> EngineProcess:
    """Takes over an engine that an earlier agent started; the record must exist, the log keeper need not."""
    name, _, index = run_dir.name.rpartition("/")
    intent = intents.read(name, int(index))
    if intent is None:
        raise HostError("intent_missing", f"the record of {run_dir.name} is gone", "")
    with contextlib.suppress(OSError):
        await (await processes.spawn([*run_dir.log_keeper, str(process.pid)], env={})).wait()
    return EngineProcess(process, run_dir, intents, intent)


def marked(prefix: str) -> list[processes.Stat]:
    """Living processes with a marker of this prefix (whole parts only) in the environment."""
    wanted = f"PARETA_MARKER={prefix}".encode()
    return [found for found in processes.processes() if _carries(found.pid, wanted)]


def _carries(pid: int, wanted: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # gone, or another user's
    if wanted not in environment:
        return False
    return any(entry == wanted or entry.startswith(wanted + b"/") for entry in environment.split(b"\0"))


def shared_memory(pid: int) -> set[str]:
    """Files in /dev/shm that a process maps."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    paths = (line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line)
    return {Path(path).name for path in paths if not path.endswith("(deleted)")}


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


async def end_strays(strays: Callable[[], Iterable[processes.Stat]], deadline_s: float) -> bool:
    """Sends SIGKILL to all strays until none is left: a killed process may have forked meanwhile, so each round looks
    anew.

    False when strays were left at the deadline.
    """
    end_s = asyncio.get_running_loop().time() + deadline_s
    while left := list(strays()):
        for stray in left:
            processes.Process(stray.pid, stray.started).signal(SIGKILL)
        if asyncio.get_running_loop().time() > end_s:
            return False
        await asyncio.sleep(0.02)
    return True


async def first(*waits: Awaitable[object], timeout_s: float) -> None:
    """Waits until the first ends, or `timeout_s`; cancels the rest."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(*tasks)


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancels each task and waits for the end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Engine process: starts one engine as a process group, with its record on disk, and ends it whole.

It does not know what an engine answers; only that it runs, writes a log, and must be gone at the end.
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
    """A running engine and the record of it."""

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
        """Until its leader ends, or one of its cores has and the leader does not follow: vLLM's does not while somebody
        waits for an answer that nobody will give. The leader's exit status, None where it is unknown.
        """
        leader, *cores = (asyncio.ensure_future(each.wait()) for each in (self._process, *self._cores))
        try:
            await asyncio.wait({leader, *cores}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({leader}, timeout=_FOLLOWS_S)
            return leader.result() if leader.done() else None
        finally:
            await cancel(leader, *cores)

    def notice_cores(self) -> None:
        """Remembers its leader's children that compute, by their size; what is helped by others can do without them."""
        children = {
            found: _resident_pages(found.pid) for found in self._process.group() if found.parent == self.pid
        }
        least = max(children.values(), default=0) / 2
        cores = [found for found, pages in children.items() if pages >= least]
        self._cores = [processes.Process(found.pid, found.started) for found in cores]

    def notice_segments(self) -> None:
        """Records the segments of shared memory that it has by now: when it dies at once, nobody could ask it then."""
        if new := self._segments() - set(self.intent.segments):
            self._record(segments=tuple(sorted({*self.intent.segments, *new})))

    def mark_ready(self, version: str | None) -> None:
        """Records that it served, and which segments of shared memory it uses, for whoever cleans up after us."""
        self._record(ready=True, version=version, segments=tuple(sorted(self._segments())))

    async def stop(self, *, term_s: float, hurry: asyncio.Event) -> bool:
        """SIGTERM to the leader, up to `term_s` (0: none) or `hurry`, then SIGKILL until nobody is left; then sweeps.

        False when something survived SIGKILL (a process stuck in a driver); what it holds is then kept on record.
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
        """Takes the stacks of all its processes, which it may not survive; the file that holds them."""
        return await stacks.dump(self._process, self._run_dir, python)

    def compiling(self) -> bool:
        """True while a compiler runs among its processes. Reads /proc."""
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
    """Writes the intent, starts the program in a session of its own, and names it in the record.

    It runs on `cpus`, by number, or wherever this process may; it writes no core dumps, which would hold prompts.
    Raises OSError when the program cannot be started or the record cannot be written.
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
    """Takes over an engine that an earlier agent started; its record must be there, its log keeper need not."""
    name, _, index = run_dir.name.rpartition("/")
    intent = intents.read(name, int(index))
    if intent is None:
        raise HostError("intent_missing", f"the record of {run_dir.name} is gone", "")
    with contextlib.suppress(OSError):
        await (await processes.spawn([*run_dir.log_keeper, str(process.pid)], env={})).wait()
    return EngineProcess(process, run_dir, intents, intent)


def marked(prefix: str) -> list[processes.Stat]:
    """Living processes whose environment carries a marker with this prefix (whole parts of it)."""
    wanted = f"PARETA_MARKER={prefix}".encode()
    return [found for found in processes.processes() if _carries(found.pid, wanted)]


def _carries(pid: int, wanted: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # gone, or somebody else's
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
    """SIGKILL to all of them until there is none: what is killed may have forked meanwhile, so each time anew.

    False when there were some at the deadline.
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
    """Until one of them ends, or `timeout_s`; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(*tasks)


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancels each and waits until it is done."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Processes: starts, adopts, signals and ends every child process of the agent: engines, planes, pip.

A child leads its own session, so that its whole group can be ended. On request a child dies with the agent
(PR_SET_PDEATHSIG) and has resource limits. Pid *and* start time identify a process, because pids recur.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

_EXEC = str(Path(__file__).with_name("processes_exec.py"))
_KEPT_OUTPUT_CHARS = 256 * 1024
_GONE_DEADLINE_S = 10.0
OPEN_FILES = 65536
"""Covers a node's streams at two descriptors each. A higher limit slows programs that iterate over all descriptors."""


def allow_open_files() -> None:
    """Raises this process's soft limit towards `OPEN_FILES`. A shell's usual 1,024 suffice for 500 streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ample = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < ample:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ample, hard))


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a program. `output` is the last 256 Ki characters of stdout and stderr, in order."""

    returncode: int
    output: str


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of `/proc/<pid>/stat`; `started` is in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int


def stat(pid: int) -> Stat | None:
    """The kernel's status of a process; None for a pid without a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name may contain spaces and parentheses
    return Stat(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def processes() -> Iterator[Stat]:
    """Every process of the host that is not a zombie."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (found := stat(int(entry.name))) is not None and found.state not in "ZX":
            yield found


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: the agent's without `PARETA_…` settings, which contain secrets, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARETA_")}
    return {**kept, **(extra or {})}


class Process:
    """A process that the agent started, or adopted after a restart.

    `pid` and `started` identify the process forever. For a session leader `group` and `signal_group` reach all
    descendants in the group. A signal to an ended process does nothing.
    """

    def __init__(self, pid: int, started: int, child: asyncio.subprocess.Process | None = None) -> None:
        self.pid = pid
        self.started = started
        self._child = child

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._child.stdout if self._child else None

    @property
    def alive(self) -> bool:
        found = stat(self.pid)
        return found is not None and found.started == self.started and found.state not in "ZX"

    async def wait(self) -> int | None:
        """Waits for the end: the exit status (negative: the signal), None for an adopted process."""
        if self._child is not None:
            return await _end_of(self._child)
        await _pidfd_exit(self.pid, self.started)
        return None

    def signal(self, number: Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def group(self) -> list[Stat]:
        """The living members of the process group."""
        leader = stat(self.pid)
        if leader is not None and leader.started != self.started:
            return []  # the pid was reused, which requires that the group is empty
        return [found for found in processes() if found.group == self.pid]

    def signal_group(self, number: Signals) -> None:
        if self.group():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill_group(self, deadline_s: float = _GONE_DEADLINE_S) -> bool:
        """Sends SIGKILL until the group is empty; False if a member survives the deadline."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        while self.group():
            self.signal_group(SIGKILL)
            if loop.time() > end_s:
                return False
            await asyncio.sleep(0.02)
        if self._child is not None:
            await _end_of(self._child)
        return True


async def _end_of(child: asyncio.subprocess.Process) -> int:
    status = await child.wait()
    # another process may hold the pipe open: asyncio would keep this end until the loop ends
    child._transport.close()  # type: ignore[attr-defined]
    return status


async def _pidfd_exit(pid: int, started: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        found = stat(pid)
        if found is None or found.started != started:
            return
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def adopt(pid: int, started: int) -> Process | None:
    """The living process with this pid and start time; None if the process ended or the pid was reused."""
    process = Process(pid, started)
    return process if process.alive else None


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    log_path: Path | None = None,
    stdout_pipe: bool = False,
    share_output: bool = False,
    stdin_fd: int | None = None,
    new_session: bool = True,
    die_with_parent: bool = False,
    rlimits: Mapping[str, int] | None = None,
    cpus: Sequence[int] = (),
    beside: Sequence[str] = (),
) -> Process:
    """Starts a program. Output goes to `log_path` (appended, 0600), to a pipe, to the agent's own, or nowhere.

    - `env` is the whole environment.
    - `rlimits` are soft limits by name (`core`, `nofile`), `cpus` the allowed cores.
    - `beside` is a side program without an environment, started first, which goes into the background of the group.

    Raises OSError if the program cannot be started. With limits, cores, `beside` or `die_with_parent` the child exits
    126 or 127 instead.
    """
    if die_with_parent or rlimits or cpus or beside:
        options = json.dumps({"rlimits": dict(rlimits or {}), "cpus": list(cpus), "beside": list(beside)})
        parent = str(os.getpid() if die_with_parent else 0)
        argv = [sys.executable, "-I", "-S", _EXEC, parent, options, "--", *argv]
    with contextlib.ExitStack() as stack:
        out: int | None = None if share_output else asyncio.subprocess.DEVNULL
        if log_path is not None:
            out = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, out)
        elif stdout_pipe:
            out = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL if stdin_fd is None else stdin_fd,
            stdout=out,
            stderr=None if share_output else asyncio.subprocess.STDOUT,
            start_new_session=new_session,
        )
    found = stat(child.pid)
    return Process(child.pid, found.started if found else 0, child)


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Runs a program to its end and passes each line of output to `on_line`.

    The program never outlives the call or the agent: at TimeoutError (past `timeout_s`) and at cancellation the whole
    group is killed. The return code of a program that cannot be started is 127 (not found) or 126. `env` None: the
    agent's environment without its settings.
    """
    process = await spawn(
        argv,
        env=environment() if env is None else env,
        cwd=cwd,
        stdout_pipe=True,
        die_with_parent=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output = await _read_lines(process, on_line)
            returncode = await process.wait()
    finally:
        await asyncio.shield(process.kill_group())
    return Completed(-1 if returncode is None else returncode, output)


async def _read_lines(process: Process, on_line: Callable[[str], None] | None) -> str:
    stream, kept, partial = process.stdout, "", ""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    while stream is not None and (chunk := await stream.read(65536)):
        text = decode(chunk)
        kept = (kept + text)[-_KEPT_OUTPUT_CHARS:]
        *lines, partial = (partial + text).split("\n")
        for line in lines:
            if on_line:
                on_line(line)
    if partial and on_line:
        on_line(partial)
    return kept

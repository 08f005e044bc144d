"""`launch`: programs run in groups of their own that end whole."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from pareta_agent import processes

FORKS = "import os,sys,time; pid=os.fork(); print(os.getpid(), flush=True) if pid else None; time.sleep(60)"


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


async def test_run_gives_status_and_output_and_feeds_each_line() -> None:
    """stdout and stderr arrive in order, the last line also without its newline."""
    lines: list[str] = []
    code = "import os; os.write(1, b'one\\n'); os.write(2, b'two\\nthr'); os.write(1, b'ee'); raise SystemExit(3)"
    done = await processes.run(python(code), timeout_s=60, on_line=lines.append)
    assert done == processes.Completed(3, "one\ntwo\nthree")
    assert lines == ["one", "two", "three"]


async def test_run_past_its_time_kills_the_whole_group() -> None:
    """A grandchild that holds the pipe does not outlive the timeout."""
    leaders: list[int] = []
    with pytest.raises(TimeoutError):
        await processes.run(
            ["sh", "-c", "sleep 60 & echo $$; wait"],
            timeout_s=2.0,  # and it must have begun by then
            on_line=lambda line: leaders.append(int(line)),
        )
    assert len(leaders) == 1
    assert [p for p in processes.processes() if p.group == leaders[0]] == []


async def test_run_that_is_cancelled_kills_the_whole_group() -> None:
    """Cancelling the caller leaves no process."""
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        processes.run(python(FORKS), timeout_s=30, on_line=lambda line: started.set_result(int(line)))
    )
    leader = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [p for p in processes.processes() if p.group == leader] == []


async def test_run_of_a_missing_program_answers_127() -> None:
    """A program that is not there is an answer, with its name in the output."""
    done = await processes.run(["/nowhere/at/all"], timeout_s=60)
    assert (done.returncode, "/nowhere/at/all" in done.output) == (127, True)


async def test_run_hides_the_agents_settings_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """PARETA_ variables hold tokens; a child sees none of them."""
    monkeypatch.setenv("PARETA_TOKEN", "secret")
    code = "import os; print([name for name in os.environ if name.startswith('PARETA_')])"
    assert (await processes.run(python(code), timeout_s=60)).output == "[]\n"


async def test_spawned_process_is_named_by_pid_and_start_time(tmp_path: Path) -> None:
    """An adopted handle reaches the same process; a wrong start time reaches nobody."""
    process = await processes.spawn(python(FORKS), env={}, log_path=tmp_path / "log")
    try:
        adopted = processes.adopt(process.pid, process.started)
        assert adopted is not None
        assert processes.adopt(process.pid, process.started + 1) is None
        stranger = processes.Process(process.pid, process.started + 1)
        stranger.signal(signal.SIGKILL)
        stranger.signal_group(signal.SIGKILL)
        assert process.alive
        waiter = asyncio.create_task(adopted.wait())
        assert await process.kill_group()
        assert await asyncio.wait_for(waiter, 60) is None
        assert await process.wait() == -signal.SIGKILL
        assert process.group() == []
    finally:
        await process.kill_group()


async def test_log_is_private_and_appended(tmp_path: Path) -> None:
    """Two programs write one after the other into a file that only its owner reads."""
    log = tmp_path / "engine.log"
    for word in ("one", "two"):
        process = await processes.spawn(python(f"print('{word}')"), env={}, log_path=log)
        assert await process.wait() == 0
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_limits_reach_the_program(tmp_path: Path) -> None:
    """Soft limits and the allowed cores are set before the program runs, in the same process."""
    code = (
        "import os; from resource import *; "
        "print(os.getpid(), getrlimit(RLIMIT_CORE)[0], os.sched_getaffinity(0))"
    )
    core = min(os.sched_getaffinity(0))
    process = await processes.spawn(
        python(code), env={}, log_path=tmp_path / "log", rlimits={"core": 0}, cpus=[core]
    )
    assert await process.wait() == 0
    assert (tmp_path / "log").read_text() == f"{process.pid} 0 {{{core}}}\n"


async def test_child_dies_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the parent takes the child with it when it was asked to die with it."""
    code = (
        "import asyncio,sys; from pareta_agent import processes\n"
        "async def main():\n"
        "    child = await processes.spawn(['sleep', '60'], env={'PATH': '/usr/bin:/bin'}, die_with_parent=True)\n"
        "    print(child.pid, child.started, flush=True); await child.wait()\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert parent.stdout is not None
    pid, started = map(int, (await parent.stdout.readline()).split())
    child = processes.adopt(pid, started)
    assert child is not None
    parent.kill()
    await parent.wait()
    await asyncio.wait_for(child.wait(), 60)
    assert not child.alive

"""Log keeper: bounds one engine's log for as long as the engine runs, with or without the agent.

Run as `python -I -S log_keeper.py LOG MAX_BYTES [LEADER_PID]`, by an adopting agent or by the leader of an engine's
process group before becoming the engine. A second keeper of the same log ends at once. The engine appends to the file
itself, so a slow, stopped or dead keeper never makes the engine wait or fail. The keeper drops the middle: the start,
the source of phases and measures, and the end stay. Imports nothing of the agent.
"""

import contextlib
import fcntl
import os
import select
import sys

HEAD_BYTES = 1 << 20
LOW_DISK_BYTES = 256 << 20
"""Four times what the spool keeps free: on a disk that full, logs give way before records do."""
LOW_DISK_LOG_BYTES = 256 << 10
IDLE_S, BUSY_S = 0.2, 0.02
NOTE = b"\n[pareta-agent] %d bytes of this log were dropped here\n"


def main(argv: list[str]) -> int:
    path, max_bytes = argv[1], int(argv[2])
    leader = os.pidfd_open(int(argv[3]) if len(argv) > 3 else os.getpgrp())
    log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        # Not `files.FileLock`: this program imports nothing of the agent.
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    if os.fork():  # the engine must have no keeper among the children
        return 0
    let_go_of_output()
    ended = select.poll()
    ended.register(leader, select.POLLIN)
    before, pause_s = 0, IDLE_S
    while not ended.poll(pause_s * 1000):
        with contextlib.suppress(OSError):  # a disk that fails may come back
            size, limit = os.fstat(log).st_size, limit_bytes(max_bytes, free_bytes(log))
            pause_s = BUSY_S if size - before > limit / 8 else IDLE_S
            before = bounded(log, limit)
    bounded(log, limit_bytes(max_bytes, free_bytes(log)))
    return 0


def let_go_of_output() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)


def free_bytes(log: int) -> int:
    disk = os.fstatvfs(log)
    return disk.f_bavail * disk.f_frsize


def limit_bytes(max_bytes: int, disk_free_bytes: int) -> int:
    return min(max_bytes, LOW_DISK_LOG_BYTES) if disk_free_bytes < LOW_DISK_BYTES else max_bytes


def bounded(log: int, limit: int) -> int:
    """Cuts the log above the limit; returns the present size."""
    size = os.fstat(log).st_size
    if size > limit:
        cut(log, size, limit)
    return os.fstat(log).st_size


def cut(log: int, size: int, limit: int) -> None:
    """Leaves a quarter of the limit, at most `HEAD_BYTES`, from the beginning and a quarter from the end, in lines."""
    head = os.pread(log, min(HEAD_BYTES, limit // 4), 0)
    head_bytes = head.rfind(b"\n") + 1
    tail = os.pread(log, limit // 4, size - limit // 4)
    tail = tail[tail.find(b"\n") + 1 :]
    os.ftruncate(log, head_bytes)
    with contextlib.suppress(OSError):  # a full disk: what was cut has made room for what matters more
        os.write(log, NOTE % (size - head_bytes - len(tail)) + tail)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""Programs that replace a file or hold a lock, and that end where they are told to.

`write PATH STEP`: replaces PATH by b"new" and kills itself at STEP ("file sync", "rename", "directory sync" or "none").
`limited PATH BYTES`: replaces PATH by 64 KiB where no file may have more than BYTES; prints the errno.
`hold PATH`: locks PATH exclusively, stores an owner, prints a line and waits to be killed.
"""

from __future__ import annotations

import os
import resource
import signal
import stat
import sys
from pathlib import Path

from pareta_registry.files import FileLock, write_atomically


def write(path: Path, step: str) -> None:
    sync = os.fsync

    def reached(here: str) -> None:
        if here == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        reached(f"{kind} sync")
        sync(descriptor)

    os.fsync = watched
    sys.addaudithook(lambda event, _: reached("rename") if event == "os.rename" else None)
    write_atomically(path, b"new")


def limited(path: Path, most_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        write_atomically(path, b"x" * 65_536)
    except OSError as error:
        print(error.errno)


def hold(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    lock.store_owner(str(os.getpid()))
    print("held", flush=True)
    signal.pause()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", path, step]:
            write(Path(path), step)
        case ["limited", path, most_bytes]:
            limited(Path(path), int(most_bytes))
        case ["hold", path]:
            hold(Path(path))

"""Process launcher: sets parent-death signal, resource limits and CPU affinity, starts a side program, then execs.

Run as `python -I -S processes_exec.py PARENT_PID OPTIONS -- argv…`, about 15 ms. A `preexec_fn` would run Python in a
forked copy of a threaded process, which may deadlock. This file imports nothing of the agent.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    parent_pid, options = int(argv[1]), json.loads(argv[2])
    program = argv[argv.index("--") + 1 :]
    if parent_pid:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died before the signal was set
            return 1
    for name, soft in options.get("rlimits", {}).items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    if beside := options.get("beside"):
        with contextlib.suppress(OSError):  # the program starts even without its side program
            os.waitpid(os.posix_spawn(beside[0], beside, {}), 0)
    if options.get("cpus"):
        os.sched_setaffinity(0, options["cpus"])
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(main(sys.argv))

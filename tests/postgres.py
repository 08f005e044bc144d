"""Debian's PostgreSQL on a directory of its own and a unix socket, run by a user who is not root, for one test run."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg


def programs() -> Path | None:
    """Where its programs are: Debian keeps them out of PATH; None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass(frozen=True, slots=True)
class Postgres:
    sockets: Path
    _numbers: count[int]

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"plane{next(self._numbers)}"
        with psycopg.connect(f"host={self.sockets} user=postgres dbname=postgres", autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://postgres@/{name}?host={self.sockets}"


@contextmanager
def running(bin_dir: Path) -> Iterator[Postgres]:
    place = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    user = _unprivileged()
    if user is not None:
        shutil.chown(place, user)
    data = place / "data"
    try:
        _run([bin_dir / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"], user)
        options = f"-c listen_addresses='' -c unix_socket_directories={place} -c fsync=off"
        _run([bin_dir / "pg_ctl", "-D", data, "-w", "-l", place / "log", "-o", options, "start"], user)
        try:
            yield Postgres(place, count(1))
        finally:
            _run([bin_dir / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], user)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unprivileged() -> str | None:
    """PostgreSQL refuses root; its own user may be missing."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _run(argv: list[object], user: str | None) -> None:
    words = [str(word) for word in argv]
    subprocess.run(words, user=user, cwd="/tmp", check=True, stdout=subprocess.DEVNULL, timeout=120)

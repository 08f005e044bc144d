"""Upgrade socket: listens for the next agent of this home, and connects to the running agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from pareta_agent.ipc.link import Link

FILE = "heir.sock"


class UpgradeListener:
    """Accepts links on a socket file that only the node's user can reach."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._inode = 0
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Replaces the socket file of an earlier listener."""
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.setblocking(False)
        self._sock.bind(str(fresh))
        fresh.chmod(0o600)
        self._sock.listen(4)
        self._inode = fresh.stat().st_ino
        fresh.replace(self._path)
        self._opened.set()

    async def next(self) -> Link:
        await self._opened.wait()
        assert self._sock is not None
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        return Link(sock)

    def close(self) -> None:
        """Removes the file, unless a later listener has replaced the file."""
        if self._sock is not None:
            self._sock.close()
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()


async def connect(path: Path) -> Link | None:
    """A link to the agent that listens at `path`; None where none does."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    return Link(sock)

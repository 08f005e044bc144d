"""A line between two agents of one home: JSON messages over a unix socket, open descriptors beside them.

A message goes whole or, when the other side is gone, not at all, which `receive` tells by None. It knows no meaning.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_HEAD = struct.Struct("!IB")
_READ_BYTES = 256 * 1024
_DESCRIPTORS_AT_ONCE = 64
_PEER = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Message:
    """`descriptors` belong to whoever received it."""

    kind: str
    body: Any
    descriptors: tuple[int, ...] = ()


class Line:
    """One end; made of a connected socket, for one loop."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock, self._loop = sock, asyncio.get_running_loop()
        self._out: deque[tuple[bytes, list[int]]] = deque()
        self._writing = False
        self._flushed = asyncio.Event()
        self._buffer = bytearray()
        self._received: deque[int] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._deaf = False
        self.closed = False

    @property
    def peer_pid(self) -> int:
        """The process at the other end."""
        packed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(packed)[0])

    def send(self, kind: str, body: Any = None, descriptors: Sequence[int] = ()) -> None:
        """Queues a message, and takes the descriptors over. What the other side will never read is dropped."""
        if self.closed or self._deaf:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        data = orjson.dumps([kind, body], default=str)
        self._out.append((_HEAD.pack(len(data), len(descriptors)) + data, list(descriptors)))
        if not self._writing:
            self._write()

    async def receive(self) -> Message | None:
        """The next message, None once the other side is gone."""
        while (message := self._parsed()) is None:
            if self.closed or not await self._read():
                return None
        return message

    async def sent(self) -> None:
        """Waits until nothing is queued any more."""
        await self._flushed.wait()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        if self._waiting is not None:
            _wake(self._waiting)
        self._drop()
        for descriptor in self._received:
            os.close(descriptor)
        self._received.clear()
        self._sock.close()

    def _drop(self) -> None:
        """What the other side will not read any more."""
        self._flushed.set()
        self._loop.remove_writer(self._sock.fileno())
        for descriptor in (each for _, descriptors in self._out for each in descriptors):
            os.close(descriptor)
        self._out.clear()

    def _write(self) -> None:
        self._writing = False
        while self._out and not self.closed:
            data, descriptors = self._out[0]
            try:
                sent = self._sock.sendmsg([data], _ancillary(descriptors))
            except BlockingIOError:
                self._writing = True
                break
            except OSError:
                self._deaf = True  # its end is told where we read, for its last words may still be there
                self._drop()
                return
            for descriptor in descriptors:
                os.close(descriptor)
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], [])
        if self._writing:
            self._flushed.clear()
            self._loop.add_writer(self._sock.fileno(), self._write)
        elif not self.closed:
            self._flushed.set()
            self._loop.remove_writer(self._sock.fileno())

    async def _read(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._sock, _READ_BYTES, _DESCRIPTORS_AT_ONCE, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            await self._readable()
            return True
        except OSError:
            data, descriptors = b"", []
        self._buffer += data
        self._received += descriptors
        return bool(data)

    async def _readable(self) -> None:
        self._waiting = ready = self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), _wake, ready)
        try:
            await ready
        finally:
            self._waiting = None
            if not self.closed:
                self._loop.remove_reader(self._sock.fileno())

    def _parsed(self) -> Message | None:
        if len(self._buffer) < _HEAD.size:
            return None
        size, count = _HEAD.unpack_from(self._buffer)
        end = _HEAD.size + size
        if len(self._buffer) < end:
            return None
        kind, body = orjson.loads(self._buffer[_HEAD.size : end])
        del self._buffer[:end]
        return Message(kind, body, tuple(self._received.popleft() for _ in range(count)))


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _ancillary(descriptors: list[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []


class Door:
    """Where lines are opened: a socket file that only the node's user can reach."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._inode = 0
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Takes the place of whoever listened there before."""
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

    async def next(self) -> Line:
        await self._opened.wait()
        assert self._sock is not None
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        return Line(sock)

    def close(self) -> None:
        """The file goes, unless it is somebody else's by now."""
        if self._sock is not None:
            self._sock.close()
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()


async def dial(path: Path) -> Line | None:
    """A line to who listens at `path`; None when nobody does."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    return Line(sock)

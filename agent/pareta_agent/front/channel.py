"""A line between the main process and one of its workers: messages in order, open descriptors beside them.

What is said within one turn of the loop travels together. It is made of an inherited socket pair, so nobody else can
speak on it, and it knows no meaning.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

_HEAD: Final = struct.Struct("!IB")
_READ_BYTES: Final = 256 * 1024
_DESCRIPTORS_AT_ONCE: Final = 64

Heard = Callable[[list[Any], Sequence[int]], None]


class Channel:
    """One end. `heard` gets each message with the descriptors that came with it, which are its own; `lost` is told
    once, when everything that had arrived was heard."""

    def __init__(self, sock: socket.socket, heard: Heard, lost: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock, self._heard, self._lost = sock, heard, lost
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._rest: deque[tuple[bytes, list[int]]] = deque()
        self._flushing = False
        self._buffer = bytearray()
        self._received: deque[int] = deque()
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, *message: Any, descriptors: Sequence[int] = ()) -> None:
        """Queues a message and takes the descriptors over. What the other side will never read is dropped."""
        if self.closed:
            _close(descriptors)
            return
        data = orjson.dumps(message, default=_plain)
        framed = _HEAD.pack(len(data), len(descriptors)) + data
        if descriptors:
            self._gather()
            self._rest.append((framed, list(descriptors)))
        else:
            self._out.append(framed)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Hears and says nothing more; `lost` is not told."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        _close([*self._received, *(each for _, descriptors in self._rest for each in descriptors)])
        self._rest.clear()
        self._received.clear()
        self._sock.close()

    def _gather(self) -> None:
        if self._out:
            self._rest.append((b"".join(self._out), []))
            self._out.clear()

    def _flush(self) -> None:
        """Writes what there is; who died is noticed where we read, for its last words may still be there."""
        if self.closed:
            return
        self._gather()
        while self._rest:
            data, descriptors = self._rest[0]
            try:
                sent = self._sock.sendmsg([data], _ancillary(descriptors))
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                _close(descriptors)
                self._rest.popleft()
                continue
            _close(descriptors)
            if sent == len(data):
                self._rest.popleft()
            else:
                self._rest[0] = (data[sent:], [])
        self._flushing = False
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._sock, _READ_BYTES, _DESCRIPTORS_AT_ONCE, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._received += descriptors
        if not data:
            self.close()
            self._lost()
            return
        self._buffer += data
        self._hear()

    def _hear(self) -> None:
        start, buffer = 0, self._buffer
        while len(buffer) >= start + _HEAD.size and not self.closed:
            size, count = _HEAD.unpack_from(buffer, start)
            end = start + _HEAD.size + size
            if len(buffer) < end:
                break
            message = orjson.loads(memoryview(buffer)[start + _HEAD.size : end].tobytes())
            start = end
            try:
                self._heard(message, [self._received.popleft() for _ in range(count)])
            except Exception as error:  # it is not to be heard again, and those behind it are
                told = {"message": f"{message[0]} could not be done", "exception": error}
                self._loop.call_exception_handler(told)
        del buffer[:start]


def _plain(value: Any) -> Any:
    """What JSON has no word for: sets, and paths."""
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _ancillary(descriptors: list[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []

"""Framed socket: sends and receives length-prefixed messages with file descriptors over a connected unix socket.

A frame is four bytes of payload length (big-endian), a byte with the number of descriptors, and the payload. The
meaning of a payload belongs to the callers.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

_HEAD: Final = struct.Struct("!IB")
_READ_BYTES: Final = 256 * 1024
_DESCRIPTORS_AT_ONCE: Final = 64
_PEER: Final = struct.Struct("3i")


def encode_frame(message: Any, descriptor_count: int = 0) -> bytes:
    """A JSON message as a frame; sets and paths are encoded as sorted lists and strings."""
    payload = orjson.dumps(message, default=_plain)
    return _HEAD.pack(len(payload), descriptor_count) + payload


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class FramedSocket:
    """Buffers of an end. Owns the socket, the queued descriptors and the received descriptors that nothing took."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._out: deque[tuple[bytes, list[int]]] = deque()
        self._buffer = bytearray()
        self._received: deque[int] = deque()
        self.closed = False

    @property
    def pending(self) -> bool:
        """True while a queued frame is not written."""
        return bool(self._out)

    @property
    def peer_pid(self) -> int:
        """The process at the other end."""
        packed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(packed)[0])

    def fileno(self) -> int:
        return self._sock.fileno()

    def queue(self, frames: bytes, descriptors: Sequence[int] = ()) -> None:
        """Takes ownership of the descriptors; `flush` sends all with the first byte of `frames`."""
        self._out.append((frames, list(descriptors)))

    def flush(self) -> bool:
        """Writes the queue; False while the socket accepts no more. Raises OSError after dropping the first entry."""
        while self._out:
            data, descriptors = self._out[0]
            try:
                sent = self._sock.sendmsg([data], _ancillary(descriptors))
            except BlockingIOError:
                return False
            except OSError:
                close_all(descriptors)
                self._out.popleft()
                raise
            close_all(descriptors)
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], [])
        return True

    def drop_queue(self) -> None:
        """Closes the queued descriptors and forgets the frames."""
        for _, descriptors in self._out:
            close_all(descriptors)
        self._out.clear()

    def fill(self) -> bool:
        """Reads once; False at the end of the stream. Raises BlockingIOError where nothing has arrived."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._sock, _READ_BYTES, _DESCRIPTORS_AT_ONCE, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            raise
        except OSError:
            return False
        self._received += descriptors
        self._buffer += data
        return bool(data)

    def next_payload(self) -> tuple[Any, int] | None:
        """The next whole message and the number of descriptors, for `take_descriptors`; None until complete."""
        if len(self._buffer) < _HEAD.size:
            return None
        size, count = _HEAD.unpack_from(self._buffer)
        end = _HEAD.size + size
        if len(self._buffer) < end:
            return None
        message = orjson.loads(self._buffer[_HEAD.size : end])
        del self._buffer[:end]
        return message, count

    def take_descriptors(self, count: int) -> list[int]:
        """Descriptors in the order of the messages; the caller owns the result. IndexError where some were lost."""
        return [self._received.popleft() for _ in range(count)]

    def close(self) -> None:
        """Closes the socket and every descriptor that was neither sent nor taken."""
        self.closed = True
        self.drop_queue()
        close_all(self._received)
        self._received.clear()
        self._sock.close()


def _plain(value: Any) -> Any:
    """Encodes the two types that JSON lacks: sets, and paths."""
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _ancillary(descriptors: list[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []

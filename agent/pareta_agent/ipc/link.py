"""Link: sends framed messages at once and receives messages by awaiting, one at a time.

A message is written whole or, once the other end is gone, not at all; `receive` then returns None.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pareta_agent.ipc.frames import FramedSocket, close_all, encode_frame


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """`descriptors` belong to the receiver."""

    kind: str
    body: Any
    descriptors: tuple[int, ...] = ()


class Link:
    """An end of the link, made from a connected socket, for a single event loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._frames, self._loop = FramedSocket(sock), asyncio.get_running_loop()
        self._blocked = self._write_failed = False
        self._flushed = asyncio.Event()
        self._waiting: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        return self._frames.closed

    @property
    def peer_pid(self) -> int:
        """The process at the other end."""
        return self._frames.peer_pid

    def send(self, kind: str, body: Any = None, descriptors: Sequence[int] = ()) -> None:
        """Queues a message and takes the descriptors over. Messages to an end that is gone are dropped."""
        if self.closed or self._write_failed:
            close_all(descriptors)
            return
        self._frames.queue(encode_frame([kind, body], len(descriptors)), descriptors)
        if not self._blocked:
            self._write()

    async def receive(self) -> LinkMessage | None:
        """The next message, None once the other end is gone."""
        while (found := self._frames.next_payload()) is None:
            if self.closed or not await self._read():
                return None
        (kind, body), count = found
        return LinkMessage(kind, body, tuple(self._frames.take_descriptors(count)))

    async def sent(self) -> None:
        """Returns when the queue is empty."""
        await self._flushed.wait()

    def close(self) -> None:
        if self.closed:
            return
        self._loop.remove_reader(self._frames.fileno())
        self._loop.remove_writer(self._frames.fileno())
        if self._waiting is not None:
            _wake(self._waiting)
        self._flushed.set()
        self._frames.close()

    def _write(self) -> None:
        self._blocked = False
        if self.closed:
            return
        try:
            self._blocked = not self._frames.flush()
        except OSError:
            self._write_failed = True  # the reader detects the lost peer: last messages may still be unread
            self._frames.drop_queue()
        if self._blocked:
            self._flushed.clear()
            self._loop.add_writer(self._frames.fileno(), self._write)
        else:
            self._flushed.set()
            self._loop.remove_writer(self._frames.fileno())

    async def _read(self) -> bool:
        try:
            return self._frames.fill()
        except BlockingIOError:
            await self._readable()
            return True

    async def _readable(self) -> None:
        self._waiting = ready = self._loop.create_future()
        self._loop.add_reader(self._frames.fileno(), _wake, ready)
        try:
            await ready
        finally:
            self._waiting = None
            if not self.closed:
                self._loop.remove_reader(self._frames.fileno())


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

"""Channel: delivers framed messages to a callback and batches the messages that a turn of the event loop sends.

The two ends are an inherited socket pair. Messages arrive in order, with all file descriptors.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from pareta_agent.ipc.frames import FramedSocket, close_all, encode_frame

OnMessage = Callable[[list[Any], Sequence[int]], None]


class Channel:
    """An end of the channel. `on_message` receives each message and owns the descriptors. `on_lost` is called once, at
    the end of the stream, after every message that had arrived.
    """

    def __init__(self, sock: socket.socket, on_message: OnMessage, on_lost: Callable[[], None]) -> None:
        self._frames = FramedSocket(sock)
        self._on_message, self._on_lost = on_message, on_lost
        self._loop = asyncio.get_running_loop()
        self._batch: list[bytes] = []
        self._flushing = False
        self._loop.add_reader(self._frames.fileno(), self._read)

    @property
    def closed(self) -> bool:
        return self._frames.closed

    def send(self, *message: Any, descriptors: Sequence[int] = ()) -> None:
        """Queues a message and takes the descriptors over. Messages to an end that is gone are dropped."""
        if self.closed:
            close_all(descriptors)
            return
        frame = encode_frame(message, len(descriptors))
        if descriptors:
            self._queue_batch()
            self._frames.queue(frame, descriptors)
        else:
            self._batch.append(frame)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Neither reads nor writes any more; `on_lost` is not called."""
        if self.closed:
            return
        self._loop.remove_reader(self._frames.fileno())
        self._loop.remove_writer(self._frames.fileno())
        self._frames.close()

    def _queue_batch(self) -> None:
        if self._batch:
            self._frames.queue(b"".join(self._batch))
            self._batch.clear()

    def _flush(self) -> None:
        """Writes the batch. The reader alone detects a lost peer: the peer's last messages may still be unread."""
        if self.closed:
            return
        self._queue_batch()
        while self._frames.pending:
            try:
                written = self._frames.flush()
            except OSError:
                continue
            if not written:
                self._loop.add_writer(self._frames.fileno(), self._flush)
                return
        self._flushing = False
        self._loop.remove_writer(self._frames.fileno())

    def _read(self) -> None:
        try:
            arrived = self._frames.fill()
        except BlockingIOError:
            return
        if not arrived:
            self.close()
            self._on_lost()
            return
        self._deliver()

    def _deliver(self) -> None:
        while not self.closed and (found := self._frames.next_payload()) is not None:
            message, count = found
            try:
                self._on_message(message, self._frames.take_descriptors(count))
            except Exception as error:  # a message is delivered once, and so are the messages behind
                context = {"message": f"{message[0]} could not be done", "exception": error}
                self._loop.call_exception_handler(context)

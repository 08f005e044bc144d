"""Relay: passes an engine's answer to the caller and reads the usage, with backpressure.

The hot path of the node: bytes that are whole content-only events go to the caller's transport unchanged, without a
task, a copy or a parse. Everything else is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from pareta_agent.gateway.upstream.chunked import BadFraming, ChunkReader, Template, whole_events
from pareta_agent.gateway.upstream.pool import EngineConnection
from pareta_agent.gateway.upstream.response_head import MAX_HEAD_BYTES, BadHead, ResponseHead, parse_head
from pareta_agent.gateway.upstream.sse import CHOICES, EventTooLarge, Listener, StreamFormat


class RelaySink(Protocol):
    """The exchange of a relay; each of the last four methods ends the relay."""

    def stream_gave(self, payload: bytes) -> None:
        """Takes payload for the caller, without the framing."""

    def verbatim(self) -> Callable[[bytes], None] | None:
        """A function that takes framed bytes; None for a caller that does not read chunks."""

    def stream_ended(self) -> None: ...

    def document_came(self, status: int, body: bytes) -> None: ...

    def engine_lost(self) -> None: ...

    def relay_failed(self, error: Exception) -> None: ...


LEARNING_EVENTS: Final = 4
_NONE: Final[dict[int, bytes]] = {}  # stays empty


class Relay:
    """The reader of an answer. Every read sets `alive`, for stall detection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_connection",
        "_end",
        "_head",
        "_is_content_only",
        "_max_bytes",
        "_passed",
        "_paused",
        "_sink",
        "_starts",
        "_suffix",
        "_template",
        "_write",
        "alive",
        "listener",
        "status",
    )

    def __init__(
        self,
        connection: EngineConnection,
        sink: RelaySink,
        wants_usage: bool,
        max_bytes: int,
        stream_format: StreamFormat = CHOICES,
    ) -> None:
        self._connection: EngineConnection | None = connection
        self._sink = sink
        self._max_bytes = max_bytes
        self._paused = False
        self._buffer = b""
        self._body = bytearray()
        self._head: ResponseHead | None = None
        self._chunks = ChunkReader()
        self._write: Callable[[bytes], None] | None = None
        self._passed = 0
        self._expect(None)
        self._is_content_only = stream_format.is_content_only
        self.listener = Listener(wants_usage, stream_format)
        self.alive = True
        self.status: int | None = None

    @property
    def events(self) -> int:
        """The number of events, parsed or passed on unparsed."""
        return self.listener.events + self._passed

    def feed(self, data: bytes) -> None:
        self.alive = True
        # A whole event that differs from other events in words alone: nearly every read of a stream, so recognized
        # here, without a call.
        start, write = self._starts.get(len(data)), self._write
        if (
            start is not None
            and write is not None
            and data.startswith(start)
            and data.endswith(self._suffix)
            and data.find(b'"', len(start), self._end) < 0
        ):
            self._passed += 1
            write(data)
            return
        try:
            self._feed_others(data)
        except (BadHead, BadFraming, EventTooLarge) as error:
            self.close()
            self._sink.relay_failed(error)
        except Exception as error:  # the loop would swallow the error and leave the request open for ever
            self.close()
            self._sink.relay_failed(error)

    def lost(self) -> None:
        self._connection = None
        self._sink.engine_lost()

    def pause(self) -> None:
        if self._connection is not None and not self._paused:
            self._paused = True
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        if self._connection is not None and self._paused:
            self._paused = False
            self._connection.transport.resume_reading()

    def overhear(self) -> None:
        """Stops passing bytes to a caller that has left, and reads the rest."""
        self._write = None
        self.resume()

    def close(self) -> None:
        """Ends an incomplete answer: the engine stops the work."""
        connection, self._connection = self._connection, None
        self._write = None
        if connection is not None:
            connection.abort()

    def _feed_others(self, data: bytes) -> None:
        write = self._write
        events = 0 if write is None else self._recognized(data)
        if write is not None and events:
            self._passed += events
            write(data)
        else:
            self._feed_carefully(data)

    def _recognized(self, data: bytes) -> int:
        """The number of whole events in `data`, if all are content only; else 0."""
        template = self._template
        fitting = template.fits(data) if template is not None else 0
        return fitting or (whole_events(data) if self._is_content_only(data) else 0)

    def _expect(self, template: Template | None) -> None:
        """Sets the template of the next events."""
        self._template, self._starts, self._suffix = template, _NONE, b""
        if template is not None:
            self._starts, self._suffix = template.starts, template.suffix
        self._end = -len(self._suffix)

    def _feed_carefully(self, data: bytes) -> None:
        self._write = None
        if self._head is None:
            data = self._feed_head(data)
            if self._head is None:
                return
        if self.status == 200 and self._head.event_stream:
            self._feed_stream(data)
        else:
            self._feed_document(data)

    def _feed_head(self, data: bytes) -> bytes:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadHead("the head does not end")
            return b""
        self._buffer = b""
        self._head = parse_head(head)
        self.status = self._head.status
        return rest

    def _feed_stream(self, data: bytes) -> None:
        if self._head and self._head.length is not None:
            raise BadHead("a stream without chunks")
        listener = self.listener
        was_over = listener.done or listener.failed
        payload = listener.feed(self._chunks.feed(data))
        if payload:
            self._sink.stream_gave(payload)
        if self._chunks.ended:
            self._give_back()
        if not was_over and (listener.done or listener.failed or self._chunks.ended):
            self._sink.stream_ended()
        elif self._may_hurry and not was_over:
            self._write = self._sink.verbatim()
            self._expect(listener.template)

    @property
    def _may_hurry(self) -> bool:
        """True if the next bytes start an event, and enough events were read to establish the format."""
        listener = self.listener
        known = listener.template is not None or listener.events >= LEARNING_EVENTS
        return known and self._chunks.at_boundary and listener.at_boundary

    def _feed_document(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        self._body += data if head.length is not None else self._chunks.feed(data)
        if len(self._body) > self._max_bytes or (head.length or 0) > self._max_bytes:
            raise BadFraming("the answer is too large")
        if head.length is not None and len(self._body) > head.length:
            raise BadFraming("more bytes than announced")
        if self._chunks.ended or len(self._body) == head.length:
            self._give_back()
            self._sink.document_came(head.status, bytes(self._body))

    def _give_back(self) -> None:
        self.resume()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._head is not None and self._head.keep_alive:
            connection.give_back()
        else:
            connection.abort()

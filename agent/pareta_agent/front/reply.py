"""The answer to one request, written to the caller's transport: a document, a stream, or a problem."""

from __future__ import annotations

from asyncio import Transport
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pareta_agent.front.chunked import LAST_CHUNK, chunk
from pareta_agent.front.dialect import Dialect
from pareta_agent.front.envelope import Problem, headers_of
from pareta_agent.front.wire import JSON, UNBUFFERED, Headers, response_head

COMMENT: Final = b": waiting for the endpoint\n\n"
STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    *UNBUFFERED,
    (b"transfer-encoding", b"chunked"),
)


class ResponseWriter:
    """Says a head once; `keep_alive` false adds `connection: close` to it. `common` headers go with every answer."""

    def __init__(
        self, transport: Transport, dialect: Dialect, common: Headers, http11: bool, keep_alive: bool
    ) -> None:
        self._transport = transport
        self._dialect = dialect
        self._common = common
        self._http11 = http11
        self.keep_alive = keep_alive and http11
        self.head_sent = False

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """More headers for the head, which has not been said yet."""
        if headers:
            self._common = [*self._common, *((k.encode(), v.encode()) for k, v in headers.items())]

    def piece(self, payload: bytes) -> None:
        """Part of a stream."""
        framed = chunk(payload) if self._http11 else payload
        if self.head_sent:
            self._transport.write(framed)
        else:
            self._head(200, STREAM_HEADERS if self._http11 else STREAM_HEADERS[:-1], framed)

    def framed(self) -> Callable[[bytes], None] | None:
        """Takes parts of a stream that are chunks already; None for a caller who does not read chunks."""
        return self._transport.write if self._http11 and self.head_sent else None

    def end_stream(self, last: bytes) -> None:
        self.piece(last)
        if self._http11:
            self._transport.write(LAST_CHUNK)

    def document(self, document: bytes) -> None:
        self._head(200, ((b"content-type", JSON), (b"content-length", b"%d" % len(document))), document)

    def problem(self, problem: Problem, events: int = 0) -> None:
        """A document; of a stream whose head has left after `events`, an event for clients that read it and a body
        that does not end, for those that only read HTTP."""
        if self.head_sent:
            self.keep_alive = False
            self.piece(self._dialect.error_event(problem, events))
            return
        document = self._dialect.error_body(problem)
        framing = [(b"content-type", JSON), (b"content-length", b"%d" % len(document))]
        self._head(problem.status, [*framing, *headers_of(problem)], document)

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]], payload: bytes) -> None:
        self.head_sent = True
        self._transport.write(response_head(status, [*self._common, *headers], self.keep_alive) + payload)

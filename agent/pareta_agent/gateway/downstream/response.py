"""Response writer: writes the answer of a request to the caller: a document, a stream, or an error."""

from __future__ import annotations

from asyncio import Transport
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pareta_agent.contract.api_errors import Problem, headers_of
from pareta_agent.contract.stream_headers import UNBUFFERED
from pareta_agent.gateway.api.dialects.base import Dialect
from pareta_agent.gateway.downstream.request_head import JSON, Headers, RequestHead, response_head
from pareta_agent.gateway.upstream.chunked import LAST_CHUNK, chunk

COMMENT: Final = b": waiting for the endpoint\n\n"
STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    *UNBUFFERED,
    (b"transfer-encoding", b"chunked"),
)


def common_headers(dialect: Dialect, request_id: str, head: RequestHead, shared: Headers) -> Headers:
    """The headers of every answer to a request: request ids and the `shared` headers of the server."""
    ids = [(name, request_id.encode()) for name in dialect.id_headers]
    given = head.client_request_id
    return [*ids, *shared, *([(b"x-client-request-id", given)] if given else [])]


class ResponseWriter:
    """Writes a single head; `keep_alive` false adds `connection: close`. `common` headers go with every answer."""

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
        """Adds headers to the head, which must not be sent yet."""
        if headers:
            self._common = [*self._common, *((k.encode(), v.encode()) for k, v in headers.items())]

    def piece(self, payload: bytes) -> None:
        """Writes a part of a stream."""
        framed = chunk(payload) if self._http11 else payload
        if self.head_sent:
            self._transport.write(framed)
        else:
            self._head(200, STREAM_HEADERS if self._http11 else STREAM_HEADERS[:-1], framed)

    def framed(self) -> Callable[[bytes], None] | None:
        """A function that takes parts of a stream with chunked framing; None for a caller that does not read chunks."""
        return self._transport.write if self._http11 and self.head_sent else None

    def end_stream(self, last: bytes) -> None:
        self.piece(last)
        if self._http11:
            self._transport.write(LAST_CHUNK)

    def document(self, document: bytes) -> None:
        self._head(200, ((b"content-type", JSON), (b"content-length", b"%d" % len(document))), document)

    def problem(self, problem: Problem, events: int = 0) -> None:
        """Writes an error document; in a stream, after `events`, an error event and an incomplete body."""
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

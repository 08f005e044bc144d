"""Client connection: uvicorn's HTTP protocol with a separate path for inference, on the same port without ASGI.

Other requests go to the ASGI app. Broken or ambiguous HTTP is answered once, and the connection ends.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.dialects.base import OPENAI
from pareta_agent.gateway.api.routes import route_of
from pareta_agent.gateway.downstream.call import InferenceCall
from pareta_agent.gateway.downstream.context import GatewayContext
from pareta_agent.gateway.downstream.head_cache import WHOLE_BYTES, known_head_of, split_length
from pareta_agent.gateway.downstream.request_head import refusal_of, request_head_of
from pareta_agent.gateway.downstream.response import ResponseWriter
from pareta_agent.gateway.downstream.upgrade_offer import parser_for, without_upgrade

LINGER_S = 1.0
TLS_BUFFER_BYTES = 64 * 2**10


class ClientConnection(HttpToolsProtocol):
    """A connection of a caller."""

    cycle: Any
    pipeline: deque[Any]

    def __init__(self, context: GatewayContext, tunnel_of: Any = None, **uvicorn: Any) -> None:
        """`tunnel_of`: the scheme at the worker, for a connection with a worker's other requests; else None."""
        super().__init__(**uvicorn)
        self._context, self.tunnel_of = context, tunnel_of
        self._header_bytes = 0
        self._max_header_bytes, self._max_headers = (
            context.settings.max_header_bytes,
            context.settings.max_headers,
        )
        self._broken = self._reading = False
        self._head: bytes | None = None  # the digest of the head that is being read
        self._turn: Any = None  # the cycle that is being answered; `cycle` is the last that was read
        self.unread_bytes = 0  # of answers, when that was last looked at
        self.waiting_since_s: float | None = None
        self.idle_since_s: float | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waiting_since_s = self._context.deps.clock.mono_s()
        if self.scheme == "https":
            # uvloop's own limit there is eight times that
            transport.set_write_buffer_limits(TLS_BUFFER_BYTES)
        self.scheme = self.tunnel_of or self.scheme
        self._address = self.client[0] if self.client else ""
        if self._context.callers is not None:
            self._context.callers.connection_opened(self, self._address)
        if excess := self._context.connections.enter(self._address):
            self.refuse(excess, Problem("too_many_requests"))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._context.connections.leave(self._address)
        if self._context.callers is not None:
            self._context.callers.connection_closed(self)
        for cycle in (self._turn, *(cycle for cycle, _ in self.pipeline)):
            if isinstance(cycle, InferenceCall) and not cycle.response_complete:
                cycle.caller_gone()

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        self._head = None
        if (
            len(data) <= WHOLE_BYTES
            and data.startswith(b"POST ")
            and self._free
            and self._forward_known_head(data)
        ):
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self.refuse(str(error), Problem("bad_http"))

    def _parse(self, data: bytes) -> None:
        """Parses a request that offers another protocol twice: the parser leaves the body to that protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._broken:
                head = without_upgrade(self.parser, self.url, self.headers)
                self.parser = parser_for(self)
                self.parser.feed_data(head + data[upgrade.args[0] :])

    @property
    def _free(self) -> bool:
        """True if the next byte begins a request that is served at once."""
        if self._reading or self.pipeline or self.tunnel_of or self._context.successor is not None:
            return False
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def _forward_known_head(self, data: bytes) -> bool:
        """True if `data` is a single whole request with a known head and key, which is then started."""
        found = split_length(data)
        if found is None:
            return False
        known = self._context.head_cache.get(found.digest)
        if known is None:
            self._head = found.digest
            return False
        grant = self._context.deps.keys.known(known.key)
        if grant is None or len(data) - found.body_at != found.length > 0:
            return False
        self._unset_keepalive_if_required()
        self.waiting_since_s = self.idle_since_s = None
        self.cycle = self._turn = call = InferenceCall(self._context, self, known.route, known.head)
        call.body, call.more_body = bytearray(data[found.body_at :]), False
        call.start(grant)
        return True

    # the parser's side

    def on_message_begin(self) -> None:
        self._reading = True
        self.url = b""
        self.headers = []
        self._header_bytes = 0
        self.waiting_since_s = self._context.deps.clock.mono_s()
        self.idle_since_s = None

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._limit_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._max_header_bytes or len(self.headers) > self._max_headers:
            self._limit_head(0)

    def on_headers_complete(self) -> None:
        self.waiting_since_s = None
        method = self.parser.get_method()
        if self._broken or (self.parser.should_upgrade() and method != b"CONNECT"):
            return
        fields, http11 = dict(self.headers), self.parser.get_http_version() == "1.1"
        if refusal := refusal_of(method, self.headers, fields, http11, self._context.hosts):
            self.refuse(*refusal)
            return
        route = route_of(method, self.url)
        if route is None or self.tunnel_of:
            self._pass_on()
            return
        keep_alive = (
            http11 and self.parser.should_keep_alive() and not (self._context.successor and self.stays)
        )
        limit = self._context.settings.most_body_bytes(route.media)
        request = request_head_of(route, fields, keep_alive, http11, limit)
        if self._head is not None and (known := known_head_of(route, request)) is not None:
            self._context.head_cache.learn(self._head, known)
        self._head = None
        call = InferenceCall(self._context, self, route, request)
        previous, self.cycle = self.cycle, call
        if previous is None or (previous.response_complete and not self.flow.write_paused):
            self._start_asgi_task(call, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((call, self.app))

    def on_body(self, body: bytes) -> None:
        if self._broken:
            return
        if isinstance(self.cycle, InferenceCall):
            if not self.cycle.response_complete:
                self.cycle.take_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._broken or self.parser.should_upgrade():
            return
        self._reading = False
        if isinstance(self.cycle, InferenceCall):
            self.cycle.body_complete()
        else:
            super().on_message_complete()

    def _pass_on(self) -> None:
        """Replays the head to uvicorn's own callbacks."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    # uvicorn's side

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._turn = cycle
        if not self.flow.write_paused:  # else the caller reads nothing: the next request is no sign of life
            self.idle_since_s = None
        if isinstance(cycle, InferenceCall):
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        if isinstance(self._turn, InferenceCall):
            self._turn.pause()
        else:
            self.idle_since_s = self._context.deps.clock.mono_s()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.idle_since_s = None
        if self._turn is not None and self._turn.response_complete:
            self._go_on()
        elif isinstance(self._turn, InferenceCall):
            self._turn.resume()

    # ours

    def call_complete(self, call: InferenceCall) -> None:
        """Continues after the last byte of a call's answer."""
        if not call.keep_alive:
            self._broken = self._broken or call.more_body
            self._hang_up()
        if self.flow.write_paused and not self.transport.is_closing():
            self.flow.pause_reading()  # no new requests from a caller that leaves answers unread
            self.idle_since_s = self._context.deps.clock.mono_s()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
        else:
            # uvicorn would arm a timer for each request; one look a tick at all connections costs less.
            self.server_state.total_requests += 1
            self.idle_since_s = self._context.deps.clock.mono_s()
            self.flow.resume_reading()
            if self._context.successor is not None:
                self.loop.call_soon(self.move)

    @property
    def between(self) -> bool:
        """True if nothing is being read, answered or written."""
        answered = self.cycle is None or self.cycle.response_complete
        busy = self._reading or self._broken or self.pipeline or self.transport.is_closing()
        return answered and not busy and not self.transport.get_write_buffer_size()

    @property
    def stays(self) -> bool:
        """True if the connection cannot be transferred: encrypted, or a worker's."""
        return bool(self.tunnel_of) or self.transport.get_extra_info("ssl_object") is not None

    def move(self) -> None:
        """Gives the connection to the successor, if between two requests."""
        take = self._context.successor
        if take is None or not self.between or self.stays:
            return
        moved = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        self._broken = True  # nothing more is read here
        self.transport.abort()
        take(moved)

    def _limit_head(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._max_header_bytes or len(self.headers) > self._max_headers:
            self.refuse("headers too large", Problem("headers_too_large"))

    def refuse(self, reason: str, problem: Problem) -> None:
        """Answers broken HTTP once; later bytes on this connection are ignored."""
        if self._broken:
            return
        self._broken = True
        self._context.deps.metrics.inc("pareta_front_bad_http_total", reason)
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        if busy and isinstance(cycle, InferenceCall) and cycle.more_body and not self.pipeline:
            cycle.refuse(problem)
            return
        if not busy:
            common = [(b"x-request-id", self._context.new_request_id().encode())]
            common += self._context.cors.headers(dict(self.headers or ()).get(b"origin"))
            common += self.server_state.default_headers
            ResponseWriter(self.transport, OPENAI, common, http11=True, keep_alive=False).problem(problem)
        self._hang_up()

    def _hang_up(self) -> None:
        """Closes the connection; after a delay if the caller still sends, so that a reset does not lose the answer."""
        if self._broken and self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()


def end_if_overdue(
    connection: ClientConnection, header_timeout_s: float, keep_alive_s: float, now_s: float
) -> None:
    """Ends a connection with a slow head, or without traffic for `keep_alive_s`; a slow reader is not idle."""
    if connection.idle_since_s is None and connection.transport.is_closing():
        connection.idle_since_s = now_s
    since, idle = connection.waiting_since_s, connection.idle_since_s
    if since is not None and now_s - since > header_timeout_s:
        connection.waiting_since_s = None
        connection.refuse("slow head", Problem("request_timeout"))
    elif idle is not None and now_s - idle > keep_alive_s:
        _end(connection, now_s)


def _end(connection: ClientConnection, now_s: float) -> None:
    left = connection.transport.get_write_buffer_size()
    if left != connection.unread_bytes:
        connection.unread_bytes, connection.idle_since_s = left, now_s
    elif left:
        connection.transport.abort()
    else:
        connection.transport.close()

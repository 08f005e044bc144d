"""Upgrade offers: a request that offers another protocol is read as if it did not. Nothing here switches protocols."""

from __future__ import annotations

from typing import Any, Final

import httptools

from pareta_agent.front.wire import Headers

_UPGRADE_HEADERS: Final = (b"connection", b"upgrade", b"http2-settings")


def parser_for(callbacks: Any) -> httptools.HttpRequestParser:
    """A parser set as uvicorn sets its own: what follows the last request of a connection is discarded."""
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def without_upgrade(parser: httptools.HttpRequestParser, target: bytes, headers: Headers) -> bytes:
    """The head that `parser` has read, without its offer.

    It becomes the last request of its connection: a proxy that takes the offer for accepted would pass on, unread,
    whatever its caller sends next.
    """
    kept = b"".join(b"%b: %b\r\n" % header for header in headers if header[0] not in _UPGRADE_HEADERS)
    version = parser.get_http_version().encode()
    return b"%b %b HTTP/%b\r\n%bconnection: close\r\n\r\n" % (parser.get_method(), target, version, kept)

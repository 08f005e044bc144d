"""Upgrade offers: removes an offer of another protocol from a request; the gateway never switches protocols."""

from __future__ import annotations

from typing import Any, Final

import httptools

from pareta_agent.gateway.downstream.request_head import Headers

_UPGRADE_HEADERS: Final = (b"connection", b"upgrade", b"http2-settings")


def parser_for(callbacks: Any) -> httptools.HttpRequestParser:
    """A parser with uvicorn's own options: bytes after a connection's last request are discarded."""
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def without_upgrade(parser: httptools.HttpRequestParser, target: bytes, headers: Headers) -> bytes:
    """The head that `parser` has read, without the offer.

    The request becomes the last on the connection: a proxy that assumes acceptance would pass on later bytes unread.
    """
    kept = b"".join(b"%b: %b\r\n" % header for header in headers if header[0] not in _UPGRADE_HEADERS)
    version = parser.get_http_version().encode()
    return b"%b %b HTTP/%b\r\n%bconnection: close\r\n\r\n" % (parser.get_method(), target, version, kept)

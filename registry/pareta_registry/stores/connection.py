"""Store connection: sends requests over a blocking HTTP/1.1 connection, for use in threads.

A body is received from the socket into the reader's own buffer. Redirects, statuses and credentials belong to `http`.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from pareta_registry.stores.settings import StoreSettings

_MORE_S = 0.1
_USER_AGENT = {"User-Agent": "pareta-registry"}


class StoreConnection:
    """A connection to an origin, through the environment's proxy, if any. Used by one thread at a time."""

    def __init__(self, origin: URL, tls: ssl.SSLContext | None, settings: StoreSettings) -> None:
        self.origin = origin
        self.is_used = self.is_cut = False
        self._settings = settings
        self._socket: socket.socket | None = None
        self._response: HTTPResponse | None = None
        self._proxy = _proxy(origin)
        host, port = _address(self._proxy or origin)
        timeout_s = settings.connect_timeout_s
        self._http: HTTPConnection = (
            HTTPSConnection(host, port, timeout=timeout_s, context=tls)
            if tls
            else HTTPConnection(host, port, timeout=timeout_s)
        )
        if self._proxy and tls:
            self._http.set_tunnel(*_address(origin), headers=_proxy_headers(self._proxy))

    def exchange(self, method: str, url: URL, headers: Mapping[str, str], body: Any) -> StoreResponse:
        """Sends a request and reads the answer's head; OSError or HTTPException on failure."""
        if self._http.sock is None:
            self._connect()
        target = url.raw_path_qs
        extra = _USER_AGENT
        if self._proxy and url.scheme == "http":
            target, extra = str(url.with_fragment(None)), extra | _proxy_headers(self._proxy)
        self._patience(self._settings.answer_timeout_s)
        self._http.request(method, target, body=body, headers={**extra, **headers})
        self._response = self._http.getresponse()
        return StoreResponse(self, self._response)

    def receive(self, view: memoryview, patience_s: float | None = None) -> int:
        """Some bytes right from the socket, 0 at its end."""
        self._patience(self._settings.answer_timeout_s if patience_s is None else patience_s)
        assert self._socket is not None
        return self._socket.recv_into(view)

    def cut(self) -> None:
        """Called from another thread: interrupts the thread that waits for this connection."""
        self.is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()  # the response holds the socket
        self._http.close()
        if self._socket is not None:
            self._socket.close()

    def _connect(self) -> None:
        self._http.connect()
        self._socket = self._http.sock
        if self.is_cut:
            raise ConnectionAbortedError("cut")

    def _patience(self, seconds: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(seconds)


class StoreResponse:
    """A status, case-insensitive headers, and a body that is read once."""

    def __init__(self, connection: StoreConnection, response: HTTPResponse) -> None:
        self.connection = connection
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers  # type: ignore[assignment]
        self._response = response
        self._is_drained = False
        if response.length == 0:
            response.close()

    @property
    def length_bytes(self) -> int | None:
        """The count of remaining bytes, None if only the end of the connection marks the end."""
        return self._response.length

    @property
    def is_whole(self) -> bool:
        """True if the body was read whole and the connection can take another request."""
        return self._response.isclosed() and not self._response.will_close

    def fill(self, view: memoryview) -> int:
        """Waits for bytes, then reads more without much waiting until `view` is full; 0 at the body's end.

        OSError or IncompleteRead if the connection breaks earlier.
        """
        count = self._some(view, None)
        while 0 < count < len(view):
            try:
                more = self._some(view[count:], _MORE_S)
            except (OSError, HTTPException):
                break  # the next read meets the error again
            if not more:
                break
            count += more
        return count

    def _some(self, view: memoryview, patience_s: float | None) -> int:
        response = self._response
        if response.isclosed():
            return 0
        if response.chunked:
            return _into(view, response.read1(len(view)))
        length = response.length
        if length is None or not self._is_drained:
            # The first bytes may have been read along with the head.
            count = _into(view, response.fp.read1(len(view) if length is None else min(len(view), length)))
            self._is_drained = True
        else:
            count = self.connection.receive(view[:length], patience_s)
        if length is not None:
            response.length = length - count
            if count == 0:
                raise IncompleteRead(b"", length)
        if count == 0 or response.length == 0:
            response.close()
        return count


def _into(view: memoryview, data: bytes) -> int:
    view[: len(data)] = data
    return len(data)


def _proxy(origin: URL) -> URL | None:
    found = getproxies().get(origin.scheme)
    return URL(found) if found and not proxy_bypass(origin.host or "") else None


def _address(url: URL) -> tuple[str, int]:
    return url.host or "", url.port or 80


def _proxy_headers(proxy: URL) -> dict[str, str]:
    if proxy.user is None:
        return {}
    pair = f"{proxy.user}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()}

"""Listeners: binds the gateway's port before any slow step, so that a taken port is reported at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence

from pareta_agent.errors import HostError

BACKLOG = 2048


def listen(host: str, port: int, size: int = 1) -> list[socket.socket]:
    """`size` TCP sockets on the same port, among which the kernel distributes connections; port 0 selects a free port.
    The first socket listens at once, each further socket when served.

    Raises HostError: port_taken, port_refused, host_unknown.
    """
    first = _first(host, port)
    try:
        return widen([first], size)
    except HostError:
        first.close()
        raise


def widen(socks: Sequence[socket.socket], size: int) -> list[socket.socket]:
    """At least `size` sockets on the port of `socks`. Added sockets are bound, and listen when served: connections that
    wait at a socket end with the only process that has the socket.

    Raises HostError: port_taken, port_refused.
    """
    added: list[socket.socket] = []
    try:
        while len(socks) + len(added) < size:
            added.append(_beside(socks[0]))
    except HostError:
        close(added)
        raise
    return [*socks, *added]


def _first(host: str, port: int) -> socket.socket:
    """Binds without SO_REUSEPORT, so that a port shared by another agent's sockets is reported as taken."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise HostError(
            "host_unknown", f"cannot listen on {host!r}: {error.strerror}", "name an address of this machine"
        ) from None
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refusal(host, port, error) from None
    sock.setblocking(False)
    return sock


def _beside(first: socket.socket) -> socket.socket:
    host, port, *_ = first.getsockname()
    sock = socket.socket(first.family, first.type, first.proto)
    try:
        for each in (first, sock):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(first.getsockname())
    except OSError as error:
        sock.close()
        raise _refusal(host, port, error) from None
    sock.setblocking(False)
    return sock


def close(socks: Iterable[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def url_host(host: str) -> str:
    """The address `host` in a URL for a caller on this machine."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _refusal(host: str, port: int, error: OSError) -> HostError:
    if error.errno == errno.EADDRINUSE:
        return HostError(
            "port_taken",
            f"port {port} on {host} is taken",
            f"`--port 0` selects a free port; `ss -ltnp 'sport = :{port}'` shows the process on this port",
        )
    if error.errno == errno.EACCES:
        return HostError(
            "port_refused", f"port {port} requires a privilege that this user lacks", "use a port above 1023"
        )
    return HostError(
        "port_refused", f"cannot listen on {host}:{port}: {error.strerror}", "name an address of this machine"
    )


def base_url(scheme: str, host: str, sock: socket.socket) -> str:
    """The base URL for a caller's SDK."""
    return f"{scheme}://{url_host(host)}:{sock.getsockname()[1]}/v1"


def inherit(given: list[socket.socket], host: str, port: int, size: int) -> list[socket.socket]:
    """The predecessor's listeners, widened to `size`, or fresh listeners where the settings name another port."""
    if port in (0, given[0].getsockname()[1]):
        return widen(given, size)
    close(given)
    return listen(host, port, size)

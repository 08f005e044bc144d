"""The one port: bound before anything slow begins, so that a taken port is known at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence

from pareta_agent.errors import HostError

BACKLOG = 2048


def listen(host: str, port: int, size: int = 1) -> list[socket.socket]:
    """As many TCP sockets on one port, among which the kernel deals connections out; port 0 picks a free one.
    The first listens, the others once they are served from.

    Raises HostError: port_taken, port_refused, host_unknown.
    """
    first = _first(host, port)
    try:
        return widen([first], size)
    except HostError:
        first.close()
        raise


def widen(socks: Sequence[socket.socket], size: int) -> list[socket.socket]:
    """At least `size` sockets on the port of `socks`. Those that are added are bound, and listen once they are served
    from: what waits at one ends with the process that alone has it. Raises HostError port_taken, port_refused."""
    added: list[socket.socket] = []
    try:
        while len(socks) + len(added) < size:
            added.append(_beside(socks[0]))
    except HostError:
        close(added)
        raise
    return [*socks, *added]


def _first(host: str, port: int) -> socket.socket:
    """It is bound alone, so that a port which another agent shares with its own is seen to be taken."""
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
    """How a caller on this machine names the address `host` in a URL."""
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
            f"`--port 0` picks a free one; `ss -ltnp 'sport = :{port}'` names who has it",
        )
    if error.errno == errno.EACCES:
        return HostError(
            "port_refused", f"port {port} needs a privilege that this user has not", "use a port above 1023"
        )
    return HostError(
        "port_refused", f"cannot listen on {host}:{port}: {error.strerror}", "name an address of this machine"
    )


def base_url(scheme: str, host: str, sock: socket.socket) -> str:
    """The address that callers give their SDK."""
    return f"{scheme}://{url_host(host)}:{sock.getsockname()[1]}/v1"


def inherit(given: list[socket.socket], host: str, port: int, size: int) -> list[socket.socket]:
    """The listeners that another agent gave, widened to `size`, or fresh ones where another port is wanted now."""
    if port in (0, given[0].getsockname()[1]):
        return widen(given, size)
    close(given)
    return listen(host, port, size)

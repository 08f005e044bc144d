"""How long a connection may go on without a word: a head that does not end, nothing asked, or answers left unread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pareta_agent.front.envelope import Problem

if TYPE_CHECKING:
    from pareta_agent.front.protocol import FrontProtocol


def end_if_overdue(
    connection: FrontProtocol, header_timeout_s: float, keep_alive_s: float, now_s: float
) -> None:
    """To be called every moment or so. Who reads what is left for it, however slowly, is not idle."""
    if connection.idle_since_s is None and connection.transport.is_closing():
        connection.idle_since_s = now_s
    since, idle = connection.waiting_since_s, connection.idle_since_s
    if since is not None and now_s - since > header_timeout_s:
        connection.waiting_since_s = None
        connection.refuse("slow head", Problem("request_timeout"))
    elif idle is not None and now_s - idle > keep_alive_s:
        _end(connection, now_s)


def _end(connection: FrontProtocol, now_s: float) -> None:
    left = connection.transport.get_write_buffer_size()
    if left != connection.unread_bytes:
        connection.unread_bytes, connection.idle_since_s = left, now_s
    elif left:
        connection.transport.abort()
    else:
        connection.transport.close()

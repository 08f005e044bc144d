"""Connection limits: counts callers' connections, in all and by address.

The module only counts; the connection writes the refusal.
"""

from __future__ import annotations

from collections import Counter


class ConnectionLimiter:
    """Counts connections by address. An IPv6 network (/64) counts as one address, because one host has all of it."""

    def __init__(self, max_connections: int, max_per_address: int) -> None:
        self._max = max_connections
        self._max_per_address = max_per_address
        self._by_address: Counter[str] = Counter()
        self._size = 0

    def enter(self, host: str) -> str | None:
        """Counts a connection in; returns the exceeded limit, None if the connection may stay."""
        address = address_of(host)
        self._size += 1
        self._by_address[address] += 1
        if self._size > self._max:
            return "too many connections"
        return "too many of one address" if self._by_address[address] > self._max_per_address else None

    def leave(self, host: str) -> None:
        address = address_of(host)
        self._size -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def address_of(host: str) -> str:
    """The address under which a connection is counted."""
    if ":" not in host or host.startswith("::ffff:"):
        return host
    head, gap, tail = host.partition("::")
    groups = [group for group in head.split(":") if group]
    if gap:
        after = [group for group in tail.split(":") if group]
        groups += ["0"] * (8 - len(groups) - len(after)) + after
    return ":".join(groups[:4])

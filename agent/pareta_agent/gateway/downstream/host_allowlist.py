"""Host allowlist: checks the Host of every request before anything else. Pure.

A web page can point a foreign name at a node's address. Only the allowlist distinguishes that name from the node's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

_WELL_FORMED: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:\d{0,5})?")
_REMEMBERED: Final = 256


class Hosts:
    """`names` may start with `*.` for all names below; without names, every well-formed Host is allowed.

    An address and `localhost` are always allowed: no web page can point either elsewhere.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._good: set[bytes] = set()

    def refusal(self, host: bytes | None) -> str | None:
        """`bad_http` for a malformed Host, `unknown_host` for a foreign Host, None for an allowed Host.

        A missing Host (HTTP/1.0) is allowed: no browser sends such a request.
        """
        if host is None or host in self._good:
            return None
        found = _WELL_FORMED.fullmatch(host)
        if found is None:
            return "bad_http"
        if self._names and not self._ours(found.group(1).decode().lower()):
            return "unknown_host"
        if len(self._good) < _REMEMBERED:
            self._good.add(host)
        return None

    def _ours(self, name: str) -> bool:
        if name in self._names or name == "localhost" or _is_address(name):
            return True
        _, dot, parent = name.partition(".")
        while dot:
            if f"*.{parent}" in self._names:
                return True
            _, dot, parent = parent.partition(".")
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True

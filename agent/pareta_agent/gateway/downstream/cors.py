"""CORS: selects the web pages with scripts that may read this node's answers. Pure.

A key is sent in a header and never by the browser itself, so no answer allows credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeGuard

Headers = list[tuple[bytes, bytes]]

MAX_AGE_S: Final = 7200
_METHODS: Final = b"GET, POST, PUT, PATCH, DELETE"
_NAMES: Final = re.compile(rb"[!-~ ]{1,2048}")
_EXPOSED: Final = (b"access-control-expose-headers", b"*")
_VARY: Final = (b"vary", b"origin")


class Cors:
    """`origins` are `scheme://host[:port]`, or `*` for every page; without any, CORS is off."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None) -> Headers:
        """The headers of every answer to a request from `origin`, refusals and streams included."""
        if not self._origins:
            return []
        return (
            [_VARY, (b"access-control-allow-origin", origin), _EXPOSED] if self._allows(origin) else [_VARY]
        )

    def preflight(self, method: str, fields: Mapping[bytes, bytes]) -> Headers | None:
        """The headers of a preflight's answer; None where the request is no preflight of an allowed page."""
        origin = fields.get(b"origin")
        if method != "OPTIONS" or b"access-control-request-method" not in fields or not self._allows(origin):
            return None
        wanted = fields.get(b"access-control-request-headers", b"")
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", wanted if _NAMES.fullmatch(wanted) else b"authorization"),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]

    def _allows(self, origin: bytes | None) -> TypeGuard[bytes]:
        return origin is not None and (b"*" in self._origins or origin.lower() in self._origins)

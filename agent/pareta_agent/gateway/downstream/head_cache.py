"""Head cache: recognizes request heads that were parsed before, so that repeated calls skip the parser.

A client repeats the same head with each call, except for the length of the body. The cache keeps the digest of the
head and the parsed result, without the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from pareta_agent.access.keys import digest_of
from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.admission.rules import bearer_of
from pareta_agent.gateway.api.routes import Route
from pareta_agent.gateway.downstream.request_head import RequestHead

REMEMBERED: Final = 4096
WHOLE_BYTES: Final = 64 * 2**10  # what may come in one piece; longer bodies are not made quicker by this
_SPELLINGS: Final = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")
_MOST_DIGITS: Final = 8


class SplitHead(NamedTuple):
    """A head without the length: the digest of the rest, the length, and the start of the body."""

    digest: bytes
    length: int
    body_at: int


@dataclass(frozen=True, slots=True)
class KnownHead:
    """The content of a head: the route, the request without the key, and the digest of the key."""

    route: Route
    head: RequestHead
    key: bytes


def known_head_of(route: Route, head: RequestHead) -> KnownHead | None:
    """The cached part of a head; None for a head with unusual fields."""
    bearer = bearer_of(head.authorization)
    if not head.plain or isinstance(bearer, Problem):
        return None
    return KnownHead(route, head.without_key(), digest_of(bearer))


def split_length(data: bytes) -> SplitHead | None:
    """None if `data` does not begin with a whole head with a plain length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    for spelling in _SPELLINGS:
        at = data.find(spelling, 0, end)
        if at >= 0:
            return _around(data, at + len(spelling), end)
    return None


def _around(data: bytes, start: int, end: int) -> SplitHead | None:
    stop = data.find(b"\r\n", start)
    digits = data[start:stop]
    if len(digits) > _MOST_DIGITS or not digits.isdigit():
        return None
    # No head that was read has a zero byte, so no head equals another head that is cut elsewhere.
    digest = hashlib.sha256(data[:start] + b"\0" + data[stop:end]).digest()
    return SplitHead(digest, int(digits), end + 4)


class HeadCache:
    """The most recent heads, by digest."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}

    def get(self, digest: bytes) -> KnownHead | None:
        return self._known.get(digest)

    def learn(self, digest: bytes, known: KnownHead) -> None:
        """Stores a valid head that the parser has read from the bytes of this digest."""
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = known

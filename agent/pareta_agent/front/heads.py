"""Request heads that were read before: a client says the same one with each call, but for the length of its body.

The parser reads a head once. Its digest is kept, with what was found in it; the key in it is not. A head with the same
bytes around the digits of its length says the same again, so its calls skip the parser.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from pareta_agent.access.keys import digest_of
from pareta_agent.front.admission import bearer_of
from pareta_agent.front.envelope import Problem
from pareta_agent.front.routes import Route
from pareta_agent.front.wire import RequestHead

REMEMBERED: Final = 4096
WHOLE_BYTES: Final = 64 * 2**10  # what may come in one piece; longer bodies are not made quicker by this
_SPELLINGS: Final = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")
_MOST_DIGITS: Final = 8


class SplitHead(NamedTuple):
    """A head without its length: the digest of the rest, the length, and where the body begins."""

    digest: bytes
    length: int
    body_at: int


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What a head says: its route, its request without the key, and the digest of the key."""

    route: Route
    head: RequestHead
    key: bytes


def known_head_of(route: Route, head: RequestHead) -> KnownHead | None:
    """What is kept of a head; None where it says anything out of the ordinary."""
    bearer = bearer_of(head.authorization)
    if not head.plain or isinstance(bearer, Problem):
        return None
    return KnownHead(route, head.without_key(), digest_of(bearer))


def split_length(data: bytes) -> SplitHead | None:
    """None where `data` does not begin with a whole head, or with one whose length cannot be told apart."""
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
    # No head that was read has a zero byte, so none of them is equal to another one that is cut elsewhere.
    digest = hashlib.sha256(data[:start] + b"\0" + data[stop:end]).digest()
    return SplitHead(digest, int(digits), end + 4)


class HeadCache:
    """The most recent ones, by digest."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}

    def get(self, digest: bytes) -> KnownHead | None:
        return self._known.get(digest)

    def learn(self, digest: bytes, known: KnownHead) -> None:
        """Of a sound head that the parser has read from the bytes of this digest."""
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = known

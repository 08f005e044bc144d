"""Response head: parses the head of an engine's answer to find where the answer ends. Pure and strict."""

from __future__ import annotations

import re
from typing import Final

from pareta_agent.value import value

MAX_HEAD_BYTES: Final = 32 * 2**10
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n|$)")
_FRAMING: Final = re.compile(
    rb"\r\n(?:content-length: *(\d{1,18})|(transfer-encoding): *chunked|(connection): *close) *(?=\r\n|$)"
)


class BadHead(ValueError):
    """The engine's answer does not start with a valid HTTP head."""


@value
class ResponseHead:
    """`length` is None for a chunked body."""

    status: int
    length: int | None
    keep_alive: bool
    event_stream: bool


def parse_head(head: bytes) -> ResponseHead:
    """Parses a head without the empty line; raises BadHead if the end of the body is not defined."""
    status = _STATUS.match(head)
    if status is None:
        raise BadHead("no status line")
    lower = head.lower()
    lengths, chunked, keep_alive = [], False, True
    for length, coding, close in _FRAMING.findall(lower):
        if length:
            lengths.append(int(length))
        chunked, keep_alive = chunked or bool(coding), keep_alive and not close
    if len(lengths) > 1 or chunked == bool(lengths):
        raise BadHead("no single framing of the body")
    return ResponseHead(
        status=int(status.group(1)),
        length=None if chunked else lengths[0],
        keep_alive=keep_alive,
        event_stream=b"\r\ncontent-type: text/event-stream" in lower,
    )

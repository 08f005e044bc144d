"""Heads of engine answers."""

import pytest

from pareta_agent.gateway.upstream.response_head import BadHead, ResponseHead, parse_head

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (OK + b"content-length: 5", ResponseHead(200, 5, True, False)),
        (OK + b"Content-Length:5\r\nConnection: close", ResponseHead(200, 5, False, False)),
        (
            OK + b"Transfer-Encoding: chunked\r\ncontent-type: text/event-stream; charset=utf-8",
            ResponseHead(200, None, True, True),
        ),
        (b"HTTP/1.1 503 \r\ncontent-length: 0", ResponseHead(503, 0, True, False)),
    ],
)
def test_a_head_is_read(head, expected):
    """Status, framing, whether the connection lives on."""
    assert parse_head(head) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/2 200",
        b"ICY 200 OK\r\ncontent-length: 1",
        OK,
        OK + b"content-length: 1\r\ncontent-length: 2",
        OK + b"content-length: 1\r\ntransfer-encoding: chunked",
        OK + b"content-length: -1",
        OK + b"content-length: 1x",
        OK + b"transfer-encoding: gzip",
    ],
)
def test_a_head_whose_end_cannot_be_told_is_refused(head):
    """Ambiguity is an engine's fault, not a guess of ours."""
    with pytest.raises(BadHead):
        parse_head(head)

"""What counts as an ack, and what every other answer means."""

from __future__ import annotations

import pytest

from pareta_agent.control.delivery import Acked, Rewind, Split, Verdict, Wait, judge

ACK = (
    b'{"server_time":1,"epoch":7,"acked_seq":10,"hash":"00ff","duplicates":2,'
    b'"rejected":[{"sequence":9,"reason":"x"}]}'
)


@pytest.mark.parametrize(
    ("status", "body", "retry_after_s", "expected"),
    [
        (200, ACK, None, Acked(10, b"\x00\xff", 2, ((9, "x"),))),
        (200, b"", None, Wait("a 200 without an ack")),
        (200, b"[]", None, Wait("a 200 without an ack")),
        (200, ACK.replace(b"00ff", b"zz"), None, Wait("a 200 without an ack")),
        (200, ACK.replace(b'"epoch":7', b'"epoch":8'), None, Wait("an ack for something else")),
        (200, ACK.replace(b":10", b":0"), None, Wait("an ack for something else")),
        (204, b"", None, Wait("answered 204")),
        (409, b'{"server_time":1,"expected_seq":4}', None, Rewind(4)),
        (409, b"{}", None, Wait("a 409 without a sequence")),
        (413, b"", None, Split()),
        (429, b"", 3.0, Wait("requires a delay (429)", 3.0)),
        (503, b"", 9999.0, Wait("requires a delay (503)", 300.0)),
        (503, b"", None, Wait("answered 503")),
        (401, b"", None, Wait("refused with 401", paused=True)),
        (403, b"", None, Wait("refused with 403", paused=True)),
        (500, b"", None, Wait("answered 500")),
        (302, b"", None, Wait("answered 302")),
    ],
)
def test_judge(status: int, body: bytes, retry_after_s: float | None, expected: Verdict) -> None:
    """One answer, one verdict."""
    assert judge(status, body, retry_after_s, epoch=7, last_sent=10) == expected

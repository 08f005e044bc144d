"""Request heads that were read before."""

import pytest

from pareta_agent.gateway.api.routes import CHAT
from pareta_agent.gateway.downstream import head_cache
from pareta_agent.gateway.downstream.head_cache import REMEMBERED, HeadCache, KnownHead
from pareta_agent.gateway.downstream.request_head import RequestHead

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %b\r\naccept: a\r\n\r\n"


def test_heads_that_differ_in_their_length_alone_are_one():
    """Whatever follows them; the body begins after the empty line."""
    short, long = head_cache.split_length(HEAD % b"2" + b"{}"), head_cache.split_length(HEAD % b"1234" + b"{")
    assert (short.digest, short.length, long.length) == (long.digest, 2, 1234)
    assert (HEAD % b"2" + b"{}")[short.body_at :] == b"{}"


@pytest.mark.parametrize(
    "other",
    [
        HEAD % b"2" + b" ",
        (HEAD % b"2").replace(b"accept: a", b"accept: b"),
        (HEAD % b"2").replace(b"host: x", b"host: y"),
        (HEAD % b"2").replace(b"content-length", b"Content-Length"),
        (HEAD % b"2").replace(b"content-length: 2\r\naccept: a", b"accept: a\r\ncontent-length: 2"),
        (HEAD % b"2").replace(b"host: x", b"host: x\r\ncontent-length: 1\0"),
    ],
)
def test_any_other_byte_makes_another_head(other):
    """Also where the length stands, and how it is spelt."""
    found = head_cache.split_length(other)
    assert (
        found is None
        or found.digest != head_cache.split_length(HEAD % b"2").digest
        or other.startswith(HEAD % b"2")
    )


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1 ", b"0x1", b"1" * 9, b"1, 1", "\u0661".encode()])
def test_a_length_that_is_no_plain_number_is_the_parsers(length):
    """So is a head without one, and one that has not come whole."""
    assert head_cache.split_length(HEAD % length) is None
    assert head_cache.split_length((HEAD % b"2")[:-2]) is None
    assert head_cache.split_length(b"POST / HTTP/1.1\r\nhost: x\r\n\r\ncontent-length: 2") is None


def test_the_oldest_are_forgotten():
    """A client that says something else each time does not fill the memory."""
    memory, known = HeadCache(), KnownHead(CHAT, RequestHead(b"", True, True, False), b"")
    for number in range(REMEMBERED + 1):
        memory.learn(b"%d" % number, known)
    assert [memory.get(b"%d" % number) for number in (0, 1, REMEMBERED)] == [None, known, known]

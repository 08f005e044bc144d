"""Who may come in: names, addresses, sizes."""

import pytest

from pareta_agent.gateway.api.media import media_bytes
from pareta_agent.gateway.downstream.body_limits import UNCOUNTED_BYTES, InboundBodyBudget
from pareta_agent.gateway.downstream.connection_limits import ConnectionLimiter, address_of
from pareta_agent.gateway.downstream.host_allowlist import Hosts
from pareta_agent.gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("host", "refusal"),
    [
        (b"api.example.com", None),
        (b"API.example.com:8000", None),
        (b"a.b.pareta.test", None),
        (b"localhost:80", None),
        (b"10.0.0.7:8000", None),
        (b"[::1]:8000", None),
        (b"pareta.test", "unknown_host"),
        (b"evil.example", "unknown_host"),
        (b"api.example.com.evil.example", "unknown_host"),
        (b"", "unknown_host"),
        (b"api.example.com, evil.example", "bad_http"),
        (b"user@api.example.com", "bad_http"),
        (b"api.example.com/path", "bad_http"),
        (b"api.example.com:80:80", "bad_http"),
        (b"\xff", "bad_http"),
    ],
)
def test_a_host_is_ours_or_foreign_or_none_at_all(host, refusal):
    """Asked twice, because the second answer may come from memory."""
    hosts = Hosts(("api.example.com", "*.pareta.test"))
    assert [hosts.refusal(host), hosts.refusal(host)] == [refusal, refusal]


@pytest.mark.parametrize(("host", "refusal"), [(b"anything", None), (b"a b", "bad_http")])
def test_without_names_every_host_is_ours_that_is_one(host, refusal):
    """The default: a balancer may call the node what it likes."""
    assert Hosts(()).refusal(host) == refusal


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
        ("2001:db8::5", "2001:db8:0:0"),
        ("::1", "0:0:0:0"),
    ],
)
def test_a_network_of_ipv6_is_one_address(host, address):
    """Its owner has all of it."""
    assert address_of(host) == address


def test_a_crowd_is_bounded_in_all_and_by_address():
    """Whoever leaves makes room, also who was refused."""
    crowd = ConnectionLimiter(3, 2)
    assert [crowd.enter("a"), crowd.enter("a")] == [None, None]
    assert crowd.enter("a") == "too many of one address"
    crowd.leave("a")
    assert crowd.enter("b") is None
    assert crowd.enter("c") == "too many connections"
    crowd.leave("a")
    crowd.leave("c")
    assert crowd.enter("a") is None


SETTINGS = GatewaySettings(max_body_bytes=50_000, max_media_body_bytes=200_000, max_uploads_bytes=300_000)


def grow(uploads, upload, body, media=True, step=10_000):
    """The problem that a body meets as it arrives, if any."""
    for end in range(step, len(body) + step, step):
        if problem := uploads.grew(upload, bytearray(body[:end]), media):
            return problem.code
    return None


@pytest.mark.parametrize(
    ("body", "media", "code"),
    [
        (b"a" * 50_000, True, None),
        (b"a" * 50_001, True, "body_too_large"),
        (b'{"url":"data:image/png;base64,' + b"a" * 100_000, True, None),
        (b'{"data":"' + b"a" * 100_000, True, None),
        (b'{"url":"data:image/png;base64,' + b"a" * 100_000, False, "body_too_large"),
        (b'{"url":"data:image/png;base64,' + b"a" * 200_000, True, "body_too_large"),
    ],
)
def test_what_grows_past_text_must_carry_media(body, media, code):
    """On a route that takes any."""
    assert grow(InboundBodyBudget(SETTINGS), "one", body, media) == code


def test_all_bodies_together_are_bounded():
    """What has arrived or was refused is not counted any more; small ones never are."""
    uploads, body = InboundBodyBudget(SETTINGS), b'{"data":"' + b"a" * 140_000
    assert [grow(uploads, n, body) for n in ("one", "two")] == [None, None]
    assert grow(uploads, "three", body) == "too_many_requests"
    for each in ("one", "three"):
        uploads.ended(each)
    assert grow(uploads, "four", body) is None
    assert all(uploads.grew(n, bytearray(UNCOUNTED_BYTES), True) is None for n in range(1000))


def test_media_is_what_says_data():
    """URLs by their scheme, audio by its field; a text that mentions data is text."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "BBBBBB", "format": "wav"}},
        {"type": "text", "text": "some data: here"},
    ]
    assert media_bytes({"messages": [{"content": parts}]}) == len("data:image/png;base64,AAAA") + 6

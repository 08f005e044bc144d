"""CORS: pages of named origins read every answer, a refusal and a stream too; all others read none."""

from __future__ import annotations

import json

import pytest

from pareta_agent.gateway.downstream.cors import Cors

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
BODY = json.dumps(ASK).encode()
PAGE = "https://app.example.com"
ORIGIN = f"origin: {PAGE}\r\n"


@pytest.fixture(params=[0, pytest.param(2, marks=pytest.mark.slow)])
def workers(request):
    return request.param


def headers_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


def preflight(
    target: str, origin: str = PAGE, wanted: str = "authorization,content-type,x-stainless-os"
) -> bytes:
    return (
        f"OPTIONS {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\n"
        f"access-control-request-method: POST\r\naccess-control-request-headers: {wanted}\r\n\r\n"
    ).encode()


def asks(rig) -> dict[str, bytes]:
    """One request for each way in which the front answers."""
    get = f"GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n{ORIGIN}\r\n"
    again = f"idempotency-key: one\r\n{ORIGIN}"
    return {
        "document": rig.post(BODY, extra=again),
        "replay": rig.post(BODY, extra=again),
        "stream": rig.post(json.dumps({**ASK, "stream": True}).encode(), extra=ORIGIN),
        "messages": rig.post(BODY, "/v1/messages", extra=ORIGIN),
        "wrong field": rig.post(b"{}", extra=ORIGIN),
        "wrong key": rig.post(BODY, extra=ORIGIN, key="pareta_sk_wrong"),
        "wrong kind": rig.post(BODY, extra=ORIGIN).replace(b"application/json", b"text/html"),
        "broken": rig.post(BODY, extra=ORIGIN + "expect: a\r\nexpect: b\r\n"),
        "models": (get % "/v1/models").encode(),
        "probe": (get % "/readyz").encode(),
        "no route": (get % "/nowhere").encode(),
        "no method": (get % "/v1/chat/completions").encode(),
        "api": (get % "/v1/endpoints").encode(),
    }


async def test_every_answer_to_an_allowed_page_may_be_read(start_rig):
    """Whatever answers, and whatever it answers."""
    rig = await start_rig(cors_origins=(PAGE,))
    await rig.engine()
    for name, request in asks(rig).items():
        headers = headers_of(await rig.raw(request))
        assert headers["access-control-allow-origin"] == PAGE, name
        assert headers["access-control-expose-headers"] == "*", name
        assert headers["vary"] == "origin", name


async def test_no_other_page_may_read_anything(start_rig):
    """It is answered as a program would be, without the headers; so is who sends no Origin."""
    rig = await start_rig(cors_origins=(PAGE, "http://localhost:3000"))
    await rig.engine()
    for other in (
        b"",
        b"origin: https://evil.example\r\n",
        b"origin: null\r\n",
        ORIGIN[:-2].encode() + b".evil.example\r\n",
    ):
        for name, request in asks(rig).items():
            answer = await rig.raw(request.replace(ORIGIN.encode(), other))
            assert b"access-control" not in answer, (name, other)
            assert headers_of(answer)["vary"] == "origin"
    refused = await rig.raw(preflight("/v1/chat/completions", "https://evil.example"))
    assert b"access-control" not in refused


async def test_a_preflight_is_answered_without_a_key(start_rig):
    """On every route, with the headers that the page asked for; nothing is admitted."""
    rig = await start_rig(cors_origins=(PAGE,))
    await rig.engine()
    for target in (
        "/v1/chat/completions",
        "/v1/messages/?beta=true",
        "/v1/models",
        "/v1/endpoints/ep_x",
        "/nowhere",
    ):
        answer = await rig.raw(preflight(target))
        headers = headers_of(answer)
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert headers["access-control-allow-origin"] == PAGE
        assert headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
        assert "POST" in headers["access-control-allow-methods"]
        assert int(headers["access-control-max-age"]) > 0
    assert rig.spool.admitted == []


async def test_it_is_off_unless_set(rig):
    """No page reads anything, and a preflight is an OPTIONS like any other."""
    await rig.engine()
    for name, request in asks(rig).items():
        answer = await rig.raw(request)
        assert b"access-control" not in answer, name
        assert b"vary" not in answer, name
    answer = await rig.raw(preflight("/v1/chat/completions"))
    assert (answer.split()[1], headers_of(answer)["allow"]) == (b"204", "POST")


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("*",), b"https://any.example", True),
        (("*",), b"null", True),
        (("*",), None, False),
        (("null",), b"null", True),
        (("https://a.example",), b"https://A.example", True),
        (("https://a.example",), b"http://a.example", False),
        (("https://a.example",), b"https://a.example:8443", False),
        (("https://a.example",), b"https://b.a.example", False),
        ((), b"https://a.example", False),
    ],
)
def test_an_origin_is_allowed_by_its_scheme_host_and_port(origins, origin, allowed):
    """Exactly, or `*`."""
    assert (dict(Cors(origins).headers(origin)).get(b"access-control-allow-origin") == origin) is (
        allowed or origin is None
    )
    assert bool(dict(Cors(origins).headers(origin)).get(b"access-control-allow-origin")) is allowed

"""What HTTP lets a server ignore: offers of other protocols, no Host in HTTP/1.0, queries, a slash at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import suppress

import pytest

from pareta_agent.gateway.api.routes import INFERENCE

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
BODY = json.dumps(ASK).encode()
STREAM = json.dumps({**ASK, "stream": True}).encode()
AUTH = f"authorization: Bearer {KEY}\r\n"
H2C = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
OFFERS = [
    H2C,
    H2C + "content-length: 0\r\n",
    "connection: close, Upgrade\r\nupgrade: h2c\r\n",
    "connection: keep-alive, Upgrade\r\nupgrade: TLS/1.0, h2c, irc/6.9\r\n",
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA\r\n",
    "upgrade: h2c\r\n",
    "connection: upgrade\r\n",
]
ROUTES = [
    "/livez",
    "/readyz",
    "/health",
    "/ping",
    "/version",
    "/metrics",
    "/v1/models",
    "/v1/models/ep_x",
]


@pytest.fixture(params=[0, pytest.param(2, marks=pytest.mark.slow)])
def workers(request):
    return request.param


def post(target: str, body: bytes, extra: str = "", version: str = "1.1") -> bytes:
    head = f"POST {target} HTTP/{version}\r\nhost: x\r\n{AUTH}{extra}content-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def get(target: str, extra: str = "host: x\r\nconnection: close\r\n", version: str = "1.1") -> bytes:
    return f"GET {target} HTTP/{version}\r\n{AUTH}{extra}\r\n".encode()


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def closing(offer: str) -> str:
    """The offer, on a connection that ends with its answer whatever the server thinks of it."""
    return offer if "connection" in offer and "upgrade:" in offer else offer + "connection: close\r\n"


async def test_an_offer_of_another_protocol_is_ignored(rig):
    """The body is read as ever, the answer is a plain request's, streamed or not, on every kind of route."""
    await rig.engine()
    for offer in OFFERS:
        if "content-length" not in offer:
            whole = await rig.raw(post("/v1/chat/completions", BODY, closing(offer)))
            streamed = await rig.raw(post("/v1/chat/completions", STREAM, closing(offer)))
            assert status_of(whole) == 200, offer
            assert json.loads(whole.partition(b"\r\n\r\n")[2])["object"] == "chat.completion"
            assert b"data: [DONE]" in streamed, offer
        for target in ROUTES:
            answer = await rig.raw(get(target, "host: x\r\n" + closing(offer)))
            assert (status_of(answer), answer.count(b"HTTP/1.1 ")) == (200, 1), (offer, target)


async def test_an_offer_with_a_chunked_body_that_comes_byte_by_byte(rig):
    """However the network cuts it; a wrong body is broken HTTP as ever."""
    await rig.engine()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{AUTH}{H2C}transfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (BODY[:20], BODY[20:])) + b"0\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for byte in head.encode() + chunks:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert status_of(await reader.read()) == 200
    writer.close()
    assert status_of(await rig.raw(head.encode() + b"ZZ\r\n")) == 400


async def test_what_follows_an_offer_is_nobodys_request(rig):
    """Neither at once nor after the answer: a proxy may take the connection for a tunnel of its caller's."""
    await rig.engine()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(post("/v1/chat/completions", BODY, H2C) + post("/v1/chat/completions", BODY))
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
    writer.write(post("/v1/chat/completions", BODY))
    with contextlib.suppress(ConnectionResetError):  # what it sent was not read
        assert await reader.read() == b""
    writer.close()
    assert b"\r\nconnection: close\r\n" in head
    assert len(rig.spool.admitted) == 1


async def test_a_crowd_of_offers_is_one_request(rig):
    """However many are written at once; a reset may follow the answer, for the others are not read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(get("/livez", "host: x\r\n" + H2C) * 2000)
    answer = b""
    with suppress(ConnectionResetError):
        while part := await reader.read(65536):
            answer += part
    writer.close()
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("hosts", [(), ("api.example.com",)])
async def test_http_1_0_needs_no_host(start_rig, hosts):
    """As load balancers probe, on every route; also where hosts are named, for no page in a browser asks like that."""
    rig = await start_rig(hosts=hosts)
    await rig.engine()
    for target in ROUTES:
        for method in (b"GET", b"OPTIONS"):
            request = get(target, "", "1.0").replace(b"GET", method, 1)
            assert status_of(await rig.raw(request)) in (200, 204), (method, target)
    for path in ("/v1/chat/completions", "/v1/endpoints"):
        answer = await rig.raw(post(path, BODY, version="1.0").replace(b"host: x\r\n", b""))
        assert status_of(answer) == (200 if "chat" in path else 404)
    assert status_of(await rig.raw(b"OPTIONS / HTTP/1.0\r\n\r\n")) == 200
    rig.front.set_ready("full disk")
    assert status_of(await rig.raw(b"OPTIONS / HTTP/1.0\r\n\r\n")) == 503
    assert status_of(await rig.raw(get("/livez", "connection: close\r\n"))) == 400  # HTTP/1.1 has one


async def test_every_inference_route_takes_a_query_and_a_slash(rig):
    """It is the same route: its own refusal, and not that there is none."""
    await rig.engine()
    for route in INFERENCE.values():
        plain = await rig.raw(post(route.path, b"{}", "connection: close\r\n"))
        for suffix in ("?api-version=2026-01-01", "/", "/?a=1&b=%2F", "?", "?next=/v1/models/"):
            answer = await rig.raw(post(route.path + suffix, b"{}", "connection: close\r\n"))
            assert answer.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]
            assert status_of(answer) == status_of(plain) != 404
        for other in ("//", "/x", "%2f", "#a", "/./", ";a"):
            assert status_of(await rig.raw(post(route.path + other, b"{}", "connection: close\r\n"))) == 404


async def test_a_query_ends_at_the_front(rig):
    """The engine is asked for the route alone."""
    await rig.engine()
    for suffix in ("?beta=true", "/", "/?/sleep"):
        assert status_of(await rig.raw(post("/v1/messages" + suffix, BODY, "connection: close\r\n"))) == 200
    asked = [line for line in rig.engines[0].heard if not line.startswith("GET ")]
    assert asked == ["POST /v1/messages"] * 3


async def test_every_other_route_takes_a_query_and_a_slash(rig):
    """Those of the public API too, which are the plane's to answer."""
    await rig.engine()
    for target in ROUTES:
        for suffix in ("/", "?a=1", "/?a=1"):
            assert status_of(await rig.raw(get(target + suffix))) == 200, target + suffix
        assert status_of(await rig.raw(get(target + "//"))) == 404
    for target in ("/v1/endpoints/", "/v1/tasks/t/", "/v1/endpoints/ep_x/cost/?period=1d"):
        answer = await rig.raw(get(target))
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "api_elsewhere"

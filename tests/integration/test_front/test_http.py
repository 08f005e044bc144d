"""HTTP as written by fools and attackers: refused once, in the envelope, and never passed to an engine."""

from __future__ import annotations

import asyncio
import json

import pytest

KEY = "pareta_sk_" + "a" * 32
BODY = json.dumps(
    {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
).encode()
START = b"POST /v1/chat/completions HTTP/1.1\r\n"
AUTH = b"authorization: Bearer " + KEY.encode() + b"\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)


def status_of(response: bytes) -> int:
    return int(response.split()[1])


def code_of(response: bytes) -> str:
    return json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"]


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (START + b"host: x\r\n" + AUTH + LENGTH + LENGTH + b"\r\n" + BODY, 400, "bad_http"),
        (START + b"host: x\r\nhost: y\r\n" + AUTH + LENGTH + b"\r\n" + BODY, 400, "bad_http"),
        (START + AUTH + LENGTH + b"\r\n" + BODY, 400, "bad_http"),
        (START + b"host: x\r\n" + AUTH + AUTH + LENGTH + b"\r\n" + BODY, 400, "bad_http"),
        (
            START + b"host: x\r\n" + AUTH + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_http",
        ),
        (START + b"host: x\r\n" + AUTH + b"transfer-encoding: gzip\r\n\r\n", 400, "bad_http"),
        (
            START + b"host: x\r\n" + AUTH + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_http",
        ),
        (START + b"host: x\n" + AUTH + LENGTH + b"\r\n" + BODY, 400, "bad_http"),
        (
            START + b"host: x\r\n" + AUTH + b"x-a: b\r\n  folded\r\n" + LENGTH + b"\r\n" + BODY,
            400,
            "bad_http",
        ),
        (START + b"host: x\r\ncontent-length : 5\r\n\r\nhello", 400, "bad_http"),
        (START + b"host: x\r\ncontent-length: -5\r\n\r\n", 400, "bad_http"),
        (START + b"host: x\r\nx-a: a\x00b\r\n\r\n", 400, "bad_http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_http"),
        (START + b"host: x\r\nx-a: " + b"a" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (START + b"host: x\r\n" + b"x-a: 1\r\n" * 150 + b"\r\n", 431, "headers_too_large"),
        (START[:-11] + b"?" + b"a" * 40_000 + START[-11:] + b"host: x\r\n\r\n", 431, "headers_too_large"),
        (
            START + b"host: x\r\n" + AUTH + b"content-encoding: gzip\r\n" + LENGTH + b"\r\n",
            415,
            "unsupported_media_type",
        ),
        (
            START + b"host: x\r\n" + AUTH + b"content-type: text/xml\r\n" + LENGTH + b"\r\n",
            415,
            "unsupported_media_type",
        ),
        (START + b"host: x\r\n" + AUTH + b"content-length: 99999999999\r\n\r\n", 413, "body_too_large"),
        (
            START
            + b"host: x\r\n"
            + AUTH
            + b"transfer-encoding: chunked\r\n\r\n"
            + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 3,
            413,
            "body_too_large",
        ),
    ],
)
async def test_broken_or_oversized_http_is_refused_once(start_rig, request_bytes, status, code):
    """One answer in the envelope, the connection ends, the engine hears nothing."""
    rig = await start_rig(max_body_bytes=100_000)
    await rig.engine()
    response = await rig.raw(request_bytes)
    assert (status_of(response), code_of(response)) == (status, code)
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in response
    assert rig.engines[0].finished + rig.engines[0].running == 0


async def test_a_smuggled_second_request_is_not_read(rig):
    """What follows ambiguous framing on the same connection is nobody's request."""
    await rig.engine()
    inner = rig.post(BODY)
    first = (
        START + b"host: x\r\n" + AUTH + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    response = await rig.raw(first + inner)
    assert response.count(b"HTTP/1.1 ") == 1
    assert rig.spool.admitted == []


async def test_a_chunked_body_is_a_body(rig):
    """Clients that stream their upload are served."""
    await rig.engine()
    halves = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (BODY[:20], BODY[20:])) + b"0\r\n\r\n"
    head = START + b"host: x\r\nconnection: close\r\n" + AUTH + b"transfer-encoding: chunked\r\n\r\n"
    assert status_of(await rig.raw(head + halves)) == 200


async def test_http_1_0_gets_an_unchunked_stream(rig):
    """An old client reads to the end of the connection."""
    await rig.engine()
    ask = json.dumps({**json.loads(BODY), "stream": True}).encode()
    request = rig.post(ask).replace(b"HTTP/1.1", b"HTTP/1.0")
    response = await rig.raw(request)
    assert b"transfer-encoding" not in response
    assert response.endswith(b"data: [DONE]\n\n")


async def test_one_connection_serves_many_requests_in_order(rig):
    """Keep-alive and pipelining: three requests in one write, three answers in order, each with its own id."""
    await rig.engine()
    keep = rig.post(BODY).replace(b"connection: close\r\n", b"")
    models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + AUTH + b"\r\n"
    response = await rig.raw(keep + models + rig.post(BODY))
    kinds = [b'"chat.completion"', b'"list"', b'"chat.completion"']
    places = [response.find(kinds[0]), response.find(kinds[1]), response.rfind(kinds[2])]
    assert response.count(b"HTTP/1.1 200") == 3
    assert places == sorted(places)
    assert len({line for line in response.split(b"\r\n") if line.startswith(b"x-request-id")}) == 3


async def test_a_request_split_at_every_byte_is_the_same_request(rig):
    """However the network cuts it."""
    await rig.engine()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for byte in rig.post(BODY):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    response = await reader.read()
    writer.close()
    assert status_of(response) == 200


async def test_expect_continue_is_answered_before_the_body(rig):
    """And not at all where the head already forbids the request."""
    await rig.engine()
    expect = START + b"host: x\r\nconnection: close\r\nexpect: 100-continue\r\n" + LENGTH
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(expect + AUTH + b"\r\n")
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(BODY)
    second = await reader.read()
    writer.close()
    refused = await rig.raw(expect + b"\r\n")
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert status_of(second) == 200
    assert status_of(refused) == 401


async def test_a_head_that_never_ends_is_ended(start_rig):
    """Slow headers: 408 and a closed connection."""
    rig = await start_rig(header_timeout_s=0.2)
    response = await rig.raw(START + b"host: x\r\n")
    assert (status_of(response), code_of(response)) == (408, "request_timeout")


async def test_a_body_that_never_comes_is_ended(start_rig):
    """Slow body: the same."""
    rig = await start_rig(body_timeout_s=0.2)
    response = await rig.raw(START + b"host: x\r\n" + AUTH + LENGTH + b"\r\n{")
    assert (status_of(response), code_of(response)) == (408, "request_timeout")


async def test_an_idle_keep_alive_connection_is_left_alone(start_rig):
    """The head's deadline does not run between requests."""
    rig = await start_rig(header_timeout_s=1.0)
    await rig.engine()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for idle_s in (2.2, 0):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        await asyncio.sleep(idle_s)
    writer.close()
    assert b"200" in head


async def test_a_connection_that_idles_too_long_is_closed(start_rig):
    """After an inference answer as after any other."""
    rig = await start_rig(keep_alive_s=1.0)
    await rig.engine()
    keep = rig.post(BODY).replace(b"connection: close\r\n", b"")
    assert status_of(await rig.raw(keep)) == 200


async def test_connect_and_absolute_forms_reach_nothing(rig):
    """A proxy's requests are not for us."""
    await rig.engine()
    absolute = (
        START.replace(b"/v1", b"http://x/v1") + b"host: x\r\nconnection: close\r\n" + AUTH + LENGTH + b"\r\n"
    )
    connect = b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answers = [await rig.raw(absolute + BODY), await rig.raw(connect)]
    assert [status_of(answer) for answer in answers] == [404, 400]
    assert rig.spool.admitted == []

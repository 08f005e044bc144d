"""What the front does before it reads what somebody wants: names, addresses, sizes, and targets that are none."""

from __future__ import annotations

import asyncio
import json

import pytest

KEY = "pareta_sk_" + "a" * 32
MESSAGE = {"role": "user", "content": "hi"}
ASK = {"model": "ep_x", "messages": [MESSAGE], "max_tokens": 3}
BODY = json.dumps(ASK).encode()
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}


def status_of(response: bytes) -> int:
    return int(response.split()[1])


def code_of(response: bytes) -> str:
    return json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"]


def asked(engine) -> list[str]:
    return [line for line in engine.heard if not line.startswith("GET /metrics")]


def named(request: bytes, host: bytes) -> bytes:
    return request.replace(b"host: x", b"host: " + host)


async def test_a_foreign_host_is_refused_and_ours_is_served(start_rig):
    """On every route, before a key is looked at; an address and localhost are always ours."""
    rig = await start_rig(hosts=("api.example.com",))
    await rig.engine()
    post, models = rig.post(BODY), b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    for request in (post, models):
        refused = await rig.raw(named(request, b"evil.example"))
        assert (status_of(refused), code_of(refused)) == (421, "unknown_host")
        for ours in (b"api.example.com:8000", b"localhost", b"127.0.0.1:1", b"[::1]"):
            assert status_of(await rig.raw(named(request, ours))) == 200
    assert len(rig.spool.admitted) == 4


async def test_a_host_that_is_none_is_broken_http(rig):
    """Two names, a user, a path."""
    for host in (b"a, b", b"u@x", b"x/y", b"x:y"):
        refused = await rig.raw(named(rig.post(BODY), host))
        assert (status_of(refused), code_of(refused)) == (400, "bad_http")


async def until_refused(rig, request: bytes) -> bytes:
    """The first answer that is no 200: a moment after it came, what fills the place is counted."""
    async with asyncio.timeout(120):
        while status_of(answer := await rig.raw(request)) == 200:
            pass
    return answer


async def test_one_address_has_so_many_connections(start_rig):
    """The next is told so; one that leaves makes room."""
    rig = await start_rig(max_connections_per_address=2)
    await rig.engine()
    held = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(2)]
    refused = await until_refused(rig, rig.post(BODY))
    assert (status_of(refused), code_of(refused)) == (429, "too_many_requests")
    assert b"\r\nretry-after: 5\r\n" in refused
    for _, writer in held:
        writer.close()

    async def served() -> None:
        while status_of(await rig.raw(rig.post(BODY))) != 200:
            await asyncio.sleep(0.02)

    await asyncio.wait_for(served(), 120)


async def test_one_key_has_so_many_requests_at_once(start_rig):
    """Admitted ones; the next is told so and leaves no record."""
    rig = await start_rig(max_in_flight_per_key=1)
    await rig.engine()
    rig.engines[0].hold()
    first = asyncio.create_task(rig.raw(rig.post(BODY)))
    await rig.until(lambda: len(rig.spool.admitted) == 1)
    refused = await rig.raw(rig.post(BODY))
    rig.engines[0].let_go()
    assert (status_of(refused), code_of(refused)) == (429, "too_many_requests")
    assert status_of(await first) == 200
    assert len(rig.spool.admitted) == 1


async def test_media_makes_a_body_large_and_text_does_not(start_rig):
    """What is beside the media has the limit of text, wherever in the body the media is."""
    rig = await start_rig(max_body_bytes=100_000, max_media_body_bytes=500_000)
    await rig.engine()
    text = {"type": "text", "text": "x" * 120_000}

    def post(*parts: object, path: str = "/v1/chat/completions") -> bytes:
        ask = {**ASK, "messages": [{"role": "user", "content": list(parts)}]}
        return rig.post(json.dumps(ask, separators=(",", ":")).encode(), path)

    assert status_of(await rig.raw(post(IMAGE))) == 200
    for refused in (post(text), post(IMAGE, text), post(IMAGE, IMAGE), post(IMAGE, path="/v1/completions")):
        response = await rig.raw(refused)
        assert (status_of(response), code_of(response)) == (413, "body_too_large")
    assert len(rig.spool.admitted) == 1


async def test_all_bodies_on_their_way_are_bounded(start_rig):
    """A crowd that uploads slowly holds no more than that; who finished made room."""
    rig = await start_rig(max_uploads_bytes=400_000)
    await rig.engine()
    long = rig.post(json.dumps({**ASK, "messages": [{**MESSAGE, "content": "x" * 300_000}]}).encode())
    _, slow = await asyncio.open_connection("127.0.0.1", rig.port)
    slow.write(long[:-1])
    await slow.drain()
    refused = await until_refused(rig, long)
    assert (status_of(refused), code_of(refused)) == (429, "too_many_requests")
    slow.close()
    await rig.until(lambda: rig.front.in_flight == 0)
    assert status_of(await rig.raw(long)) == 200


ADMIN = (
    "/sleep",
    "/reset_prefix_cache",
    "/v1/load_lora_adapter",
    "/collective_rpc",
    "/server_info",
    "/tokenize",
)


def spellings(path: str) -> list[str]:
    """What has reached an upstream behind some proxy or other."""
    encoded = "/" + "".join(f"%{ord(c):02x}" for c in path[1:])
    chat = "/v1/chat/completions"
    return [
        path, encoded, f"/{path}", f"//{path}", f"{path}/", f"{path}?a=1", f"{path}%20", f"{path};a", f"{path}.",
        f"/v1/..{path}", f"{chat}/..{path}", f"{chat}/../../..{path}", f"/%2e%2e{path}", f"{chat}%2f..%2f..{path}",
        f"{chat}%00{path}", f"{chat}#{path}", f"\\{path}", f"http://engine{path}",
        f"http://x{chat}/../../..{path}", path.upper(), f"/metrics/..{path}", "*", "engine:80",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ADMIN)
async def test_no_spelling_of_an_admin_route_reaches_the_engine(rig, path):
    """Whatever the method; all are answered by us and the engine hears nothing."""
    engine = (await rig.engine()) and rig.engines[0]
    for spelling in spellings(path):
        for method in ("POST", "GET", "DELETE"):
            request = rig.post(BODY).replace(b"POST /v1/chat/completions", f"{method} {spelling}".encode(), 1)
            response = await rig.raw(request)
            assert status_of(response) in (400, 404, 405, 413), (method, spelling, response)
    assert asked(engine) == []


@pytest.mark.parametrize(
    "upgrade",
    [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n",
    ],
)
async def test_an_upgrade_smuggles_nothing(rig, upgrade):
    """h2c or websocket: one plain answer, the last of its connection, and what follows is nobody's request."""
    engine = (await rig.engine()) and rig.engines[0]
    for path, status in (("/v1/chat/completions", 200), ("/metrics", 405), ("/v1/endpoints", 404)):
        request = rig.post(BODY, path).replace(b"connection: close\r\n", upgrade.encode())
        response = await rig.raw(request + rig.post(BODY))
        assert status_of(response) == status
        assert response.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in response
        assert b"\r\nupgrade:" not in response.lower()
    assert asked(engine) == ["POST /v1/chat/completions"]


@pytest.mark.parametrize(
    "chunk", [b"ZZ\r\n", b"fffffffffffffffff\r\n", b"-1\r\n", b"5\r\nhelloXX", b"5\nhello"]
)
async def test_a_body_with_broken_chunks_is_broken_http(rig, chunk):
    """Found out after the head: the caller is told all the same, once."""
    await rig.engine()
    head = rig.post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    response = await rig.raw(head + chunk)
    assert (status_of(response), code_of(response)) == (400, "bad_http")
    assert response.count(b"HTTP/1.1 ") == 1
    assert rig.spool.admitted == []


@pytest.mark.parametrize(
    "fields",
    [
        "content-encoding: identity\r\ncontent-encoding: gzip\r\n",
        "expect: 100-continue\r\nexpect: x\r\n",
        "idempotency-key: a\r\nidempotency-key: b\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "x-a: a\rb\r\n",
        " x-a: b\r\n",
        ": b\r\n",
        "x a: b\r\n",
    ],
)
async def test_heads_that_may_be_read_in_two_ways_are_refused(rig, fields):
    """Twice what may be there once, a bare CR, a name that is none."""
    await rig.engine()
    response = await rig.raw(rig.post(BODY, extra=fields))
    assert (status_of(response), code_of(response)) == (400, "bad_http")
    assert rig.spool.admitted == []


async def test_chunks_are_not_http_1_0(rig):
    """A proxy that speaks 1.0 would read that body to another end."""
    await rig.engine()
    head = rig.post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked").replace(b"1.1", b"1.0")
    response = await rig.raw(head + b"0\r\n\r\n")
    assert (status_of(response), code_of(response)) == (400, "bad_http")

"""A client that says the same head again: what it is told is what the parser would have told."""

from __future__ import annotations

import asyncio
import json

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def request(ask: dict[str, object], extra: str = "") -> bytes:
    body = json.dumps(ask).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{extra}"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(120):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


async def test_one_head_says_the_same_each_time(rig):
    """In one piece, in two, two at once, with other lengths, on other connections: each call is recorded."""
    await rig.engine()
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        for words in ("hi", "hi", "how do you do", "hi"):
            said = request({**ASK, "messages": [{"role": "user", "content": words}]})
            for pieces in ((said,), (said[:30], said[30:]), (said[:-5], said[-5:]), (said + said,)):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.01)
                for _ in range(2 if pieces == (said + said,) else 1):
                    assert (await answer(reader))[0] == 200
        writer.close()
    assert len(rig.spool.admitted) == len(rig.spool.records) == 2 * 4 * 5
    assert len(rig.front._context.head_cache._known) == 1


async def test_a_known_head_does_not_open_what_was_closed(rig):
    """The body is read anew, a key that is known no more is asked for, a drain refuses."""
    await rig.engine()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    seen = []
    for ask in (ASK, ASK, {**ASK, "model": "ep_none"}, {**ASK, "messages": []}, ASK):
        writer.write(request(ask))
        seen.append((await answer(reader))[0])
    rig.front._deps.keys.revise(7)
    rig.front._deps.keys._introspect = nobody
    writer.write(request(ASK))
    seen.append((await answer(reader))[0])
    assert seen == [200, 200, 404, 400, 200, 401]
    writer.close()


async def nobody(_digest: str) -> None:
    return None


async def test_what_is_out_of_the_ordinary_is_never_taken_for_known(rig):
    """An idempotency key, an expectation, a connection that is to end."""
    await rig.engine()
    for extra in ("idempotency-key: a\r\n", "expect: 100-continue\r\n", "connection: close\r\n"):
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(request(ASK, extra))
            async with asyncio.timeout(120):
                assert b"200 OK" in await reader.readuntil(b"}")
            writer.close()
    assert not rig.front._context.head_cache._known

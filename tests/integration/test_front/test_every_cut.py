"""An engine that dies at every byte of its answer, callers who leave at every chunk or read a byte at a time.

What a caller saw whole is one completed record, and nothing else is.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from pareta_agent.contract.fleet_view import ReplicaView

ASK = json.dumps(
    {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 12}
).encode()
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _event(**more: object) -> bytes:
    return b"data: " + orjson.dumps({"id": "x", "object": "chat.completion.chunk", **more}) + b"\n\n"


def _choice(content: str, finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
EVENTS = (
    _event(choices=[_choice("a")]),
    _event(choices=[_choice("b", "stop")]),
    _event(choices=[], usage=USAGE),
    b"data: [DONE]\n\n",
)
ANSWER = HEAD + b"".join(b"%x\r\n%s\r\n" % (len(e), e) for e in EVENTS) + b"0\r\n\r\n"


@pytest.fixture
async def cut_after(rig) -> AsyncIterator[Callable[[int], None]]:
    """An engine that says so many bytes of its answer and hangs up; the number can be changed."""
    sizes = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER[: sizes[-1]])
        await writer.drain()
        writer.close()

    path = rig.sockets / "cut.sock"
    server = await asyncio.start_unix_server(answer, path)
    rig.endpoint(replicas=(ReplicaView("ep_x/0", 1, path, "0.32.0"),))
    yield sizes.append
    server.close()


async def test_an_answer_cut_at_any_byte_is_whole_or_not_debited(rig, cut_after, figures):
    """Each byte of head, chunks, usage and end: one record a call, completed only for who saw the end."""
    wholes = []
    for size in range(len(ANSWER) + 1):
        cut_after(size)
        seen = await rig.raw(rig.post(ASK))
        whole = seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert len(rig.spool.records) == len(rig.spool.admitted) == size + 1
        record = rig.spool.records[-1]
        assert (record.outcome == "completed") == whole, size
        if whole:
            assert (record.tokens.input, record.tokens.output) == (5, 2)
        wholes += [record.admission.request_id] * whole
    assert 1 <= len(wholes) <= len(b"\r\n0\r\n\r\n") + 1
    figures(wholes, recorded(rig), admitted=len(rig.spool.admitted))


async def test_a_caller_who_reads_a_byte_at_a_time_gets_everything(rig, figures):
    """Slowness costs nothing but time: the whole answer, one completed record."""
    await rig.engine()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=16)
    writer.write(rig.post(ASK))
    seen = b""
    while byte := await asyncio.wait_for(reader.read(1), 120):
        seen += byte
    writer.close()
    assert seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert [record.outcome for record in rig.spool.records] == ["completed"]
    figures(recorded(rig), recorded(rig), admitted=len(rig.spool.admitted))


@pytest.mark.slow
async def test_a_caller_of_a_byte_a_second_holds_up_nobody(rig, figures):
    """Others are answered meanwhile; when it reads on at last, its answer is whole."""
    await rig.engine()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", rig.port))
    reader, writer = await asyncio.open_connection(sock=slow, limit=4096)
    writer.write(rig.post(ASK.replace(b'"max_tokens": 12', b'"max_tokens": 1900')))
    for _ in range(4):
        assert len(await reader.read(1)) == 1
        assert (await rig.raw(rig.post(ASK))).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        await asyncio.sleep(1)
    async with asyncio.timeout(120):
        assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    writer.close()
    assert [record.outcome for record in rig.spool.records] == ["completed"] * 5
    figures(recorded(rig), recorded(rig), admitted=len(rig.spool.admitted))


def recorded(rig) -> list[str]:
    return [record.admission.request_id for record in rig.spool.records]

"""Many streams at once on one front: none is cut, none is counted twice, and one who does not read is alone in it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

STREAMS, TOKENS = 150, 20
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS, "stream": True}


async def ask(rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(json.dumps(ASK).encode()))
    await reader.readuntil(b'"content":" word"')
    return reader, writer


async def heard_out(rig) -> bytes:
    reader, writer = await ask(rig)
    rest = await reader.read()
    writer.close()
    return rest


async def left_midway(rig) -> None:
    _, writer = await ask(rig)
    writer.transport.abort()


async def test_a_crowd_is_served_whole_and_counted_once_each(rig):
    """Streams that are heard out end properly beside streams that are left; each has one record of its own kind."""
    await rig.engine("--slow-token", "0.02")
    async with asyncio.timeout(120):
        heard = asyncio.gather(*(heard_out(rig) for _ in range(STREAMS)))
        await asyncio.gather(*(left_midway(rig) for _ in range(STREAMS // 3)))
        answers = await heard
    assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
    assert {answer.count(b'"content":" word"') for answer in answers} == {
        TOKENS - 2
    }  # `ask` read one, the first has no blank
    await rig.until(lambda: rig.front.in_flight == 0)
    outcomes = Counter(record.outcome.value for record in rig.spool.records)
    assert outcomes == {"completed": STREAMS, "partial_client": STREAMS // 3}
    assert {r.request_id for r in rig.spool.admitted} == {r.admission.request_id for r in rig.spool.records}
    assert len(rig.spool.records) == len(rig.spool.admitted)

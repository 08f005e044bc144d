"""Callers who ask before they have read: whose turn it is hears of them, and what they leave unread is bounded."""

from __future__ import annotations

import asyncio
import json

import pytest

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}]}
MODELS = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()
READ_BYTES = 2**20


def asked(rig, **more) -> bytes:
    """A call that keeps its connection."""
    return rig.post(json.dumps({**ASK, **more}).encode()).replace(b"connection: close\r\n", b"")


def buffered_bytes(rig) -> int:
    """What the front holds for callers who do not read."""
    return sum(c.transport.get_write_buffer_size() for c in rig.front._server.server_state.connections)


@pytest.mark.parametrize("next_is_inference", [True, False])
async def test_who_leaves_a_pipeline_ends_what_runs_for_it(rig, next_is_inference):
    """The call whose turn it is hears of it, whatever waits behind it; each is counted once."""
    await rig.engine("--slow-token", "0.02", "--tokens", "5000")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(asked(rig, stream=True) + (asked(rig) if next_is_inference else MODELS))
    await reader.readuntil(b'"content":" word"')
    writer.transport.abort()
    await rig.until(lambda: rig.engines[0].aborted == 1)
    await rig.until(lambda: len(rig.spool.records) == 1)
    assert [record.outcome.value for record in rig.spool.records] == ["partial_client"]
    assert rig.front.in_flight == 0
    lines = rig.metrics.render().decode().splitlines()
    refused = [
        line.split()[-1] for line in lines if line.startswith("pareta_requests_total{") and '"499"' in line
    ]
    assert refused == ["1.0"] * (1 + next_is_inference)


async def test_a_slow_reader_who_pipelines_holds_the_engine_back_not_the_memory(rig):
    """A request that waits for its turn is not the one that is told to pause."""
    await rig.engine("--tokens", "60000")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**14)
    writer.write(asked(rig, stream=True) + MODELS)
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    made = -1
    while made != rig.engines[0].generation_tokens:
        made = rig.engines[0].generation_tokens
        await asyncio.sleep(0.1)
    held = buffered_bytes(rig)
    writer.transport.resume_reading()
    while b'"object":"list"' not in await reader.read(2**16):
        pass
    writer.close()
    assert made < 60000
    assert held < 512 * 1024


async def test_who_asks_on_and_never_reads_is_not_heard_on(rig):
    """Answers that nobody reads would fill the memory; nothing more is read of such a caller until it does."""
    await rig.engine()
    wrong = asked(rig, messages=[])
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**14)
    writer.write(asked(rig))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    taken = 0
    for _ in range(400):
        if not writer.transport.get_write_buffer_size():
            writer.write(wrong * 1000)
        await asyncio.sleep(0.005)
        taken = max(taken, buffered_bytes(rig))
    writer.transport.abort()
    assert taken < READ_BYTES


async def test_who_reads_nothing_for_long_has_left(start_rig):
    """The engine is not to blame for a caller who stopped reading: the call ends as one whose caller left."""
    rig = await start_rig(stall_timeout_s=1.0)
    await rig.engine("--tokens", "60000")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**14)
    writer.write(asked(rig, stream=True))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    await rig.until(lambda: len(rig.spool.records) == 1)
    await rig.until(lambda: not rig.front._server.server_state.connections)
    writer.close()
    assert [record.outcome.value for record in rig.spool.records] == ["partial_client"]


async def test_pages_that_nobody_fetches_are_not_kept_for_ever(start_rig):
    """The same of what is not inference, and needs no key."""
    rig = await start_rig(keep_alive_s=1.0)
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**14)
    writer.transport.pause_reading()
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 2000)
    await rig.until(lambda: buffered_bytes(rig) > 0)
    await rig.until(lambda: not rig.front._server.server_state.connections)
    writer.close()


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"])
async def test_answers_that_nobody_fetches_are_not_kept_for_ever(start_rig, last):
    """A connection with an unread answer idles as one without: its bytes go after the same time."""
    rig = await start_rig(keep_alive_s=1.0)
    await rig.engine("--tokens", "60000")
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**14)
    writer.transport.pause_reading()
    writer.write(asked(rig, n=100).replace(b"host: x\r\n", b"host: x\r\n" + last))
    await rig.until(lambda: buffered_bytes(rig) > 0)
    await rig.until(lambda: not rig.front._server.server_state.connections)
    writer.close()

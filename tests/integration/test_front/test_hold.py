"""Calls for an endpoint that is cold or starting: in line, woken once, answered, refused in time, forgotten."""

from __future__ import annotations

import asyncio
import json

import openai

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def body(**more: object) -> bytes:
    return json.dumps({**ASK, **more}).encode()


async def cold(rig, **view: object) -> None:
    """The endpoint has an engine, and is shown as cold until `warm`."""
    await rig.engine()
    rig.replicas = rig.endpoints["ep_x"].replicas
    rig.endpoint(status="cold", retry_after_s=1, **view)


def warm(rig) -> None:
    rig.endpoint(status="live", replicas=rig.replicas)


def held(rig) -> float:
    return rig.metrics._values.get(("pareta_requests_held", ("ep_x",)), 0)


async def test_calls_wait_for_the_wake_and_are_answered(rig):
    """Both are answered once it is live; each asked for the same wake, which one start answers."""
    await cold(rig)
    calls = [asyncio.create_task(rig.raw(rig.post(body()))) for _ in range(2)]
    await rig.until(lambda: held(rig) == 2)
    assert rig.spool.admitted == []
    assert rig.woken == ["ep_x", "ep_x"]
    warm(rig)
    assert [(await call).split()[1] for call in calls] == [b"200", b"200"]
    assert (held(rig), len(rig.spool.records)) == (0, 2)


async def test_a_call_that_waited_too_long_is_a_503_that_says_when(start_rig):
    """The expectation of the endpoint is what Retry-After says; nothing was admitted."""
    rig = await start_rig(hold_s=1.1)
    await cold(rig)
    answer = await rig.raw(rig.post(body()))
    assert (answer.split()[1], b"retry-after: 1\r\n" in answer) == (b"503", True)
    assert (held(rig), rig.spool.admitted) == (0, [])


async def test_a_starting_node_says_so_for_what_it_does_not_know_yet(rig):
    """Before the first reconcile an unknown endpoint is no 404, and there is no line to stand in."""
    rig.complete = False
    answer = await rig.raw(rig.post(body()))
    assert (answer.split()[1], b"retry-after: 1\r\n" in answer) == (b"503", True)
    rig.complete = True
    assert (await rig.raw(rig.post(body()))).split()[1] == b"404"


async def test_a_wait_that_cannot_succeed_is_refused_at_once(start_rig):
    """An endpoint that needs longer than a call may wait is woken, and the call told to come back."""
    rig = await start_rig(hold_s=30)
    rig.endpoint(status="cold", retry_after_s=40)
    answer = await rig.raw(rig.post(body()))
    assert (answer.split()[1], b"retry-after: 40\r\n" in answer) == (b"503", True)
    assert rig.woken == ["ep_x"]


async def test_a_caller_who_leaves_is_out_of_line(rig):
    """Its place is free at once."""
    await cold(rig)
    _reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body()))
    await rig.until(lambda: held(rig) == 1)
    writer.transport.abort()
    await rig.until(lambda: held(rig) == 0)
    assert rig.front.in_flight == 0


async def test_a_full_line_is_a_429(start_rig):
    """One more than the queue takes."""
    rig = await start_rig(queue_per_endpoint=1)
    await cold(rig)
    first = asyncio.create_task(rig.raw(rig.post(body())))
    await rig.until(lambda: held(rig) == 1)
    second = await rig.raw(rig.post(body()))
    assert (second.split()[1], b"endpoint_busy" in second) == (b"429", True)
    warm(rig)
    assert (await first).split()[1] == b"200"


async def test_a_stream_hears_that_it_waits_and_then_its_answer(start_rig):
    """Comments while it waits, which the client reads past, and the whole stream after them."""
    rig = await start_rig(comfort_s=0.05)
    await cold(rig)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body(stream=True)))
    async with asyncio.timeout(120):
        waited = [await reader.readuntil(b": waiting") for _ in range(2)]
        warm(rig)
        answer = await reader.read()
    writer.close()
    assert (waited[0].split()[1], b"[DONE]" in answer) == (b"200", True)
    rig.endpoint(status="cold", retry_after_s=1)
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        opening = asyncio.create_task(client.chat.completions.create(**ASK, stream=True))
        await asyncio.sleep(0.2)
        warm(rig)
        words = [chunk async for chunk in await opening]
    assert words[-1].choices[0].finish_reason


async def test_a_stream_that_waited_in_vain_ends_with_an_error_event(start_rig):
    """Its head is gone, so the refusal is an event and the body has no end."""
    rig = await start_rig(comfort_s=0.05)
    await cold(rig)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body(stream=True)))
    async with asyncio.timeout(120):
        await reader.readuntil(b": waiting")
        rig.endpoint(status="failed")
        answer = await reader.read()
    writer.close()
    assert (answer.count(b'{"error":'), b"endpoint_failed" in answer) == (1, True)
    assert b"[DONE]" not in answer


async def test_a_drain_refuses_who_waits(rig):
    """What was not admitted goes elsewhere at once."""
    await cold(rig)
    call = asyncio.create_task(rig.raw(rig.post(body())))
    await rig.until(lambda: held(rig) == 1)
    await rig.front.drain(5)
    assert b"node_draining" in await call

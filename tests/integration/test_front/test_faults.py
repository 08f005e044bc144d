"""Engines and callers that fail midway: one record, the right outcome, a typed error, nothing told of the engine."""

from __future__ import annotations

import asyncio
import json

import openai
import pareta
import pytest

KEY = "pareta_sk_" + "a" * 32
WEIGHTS = "CANARY"
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}


def body(**more) -> bytes:
    return json.dumps({**ASK, **more}).encode()


async def outcomes(rig, count=1):
    await rig.until(lambda: len(rig.spool.records) >= count)
    assert len(rig.spool.admitted) == len(rig.spool.records)
    return [record.outcome.value for record in rig.spool.records]


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        (["--error-then-done"], "failed_engine"),
        (["--cut-mid-stream"], "failed_engine"),
        (["--abort-finish"], "failed_server"),
    ],
)
async def test_a_stream_that_fails_midway_raises_in_the_openai_client(rig, flags, outcome):
    """An error event ends it; nothing is called completed."""
    await rig.engine(*flags, "--leak-canary")
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.APIError) as raised:
            _ = [chunk async for chunk in stream]
    assert raised.value.code == "engine_failed"
    assert await outcomes(rig) == [outcome]


async def test_a_stream_that_fails_midway_raises_in_the_pareta_client(rig):
    """That client does not know error events, but a body without an end it does."""
    await rig.engine("--error-then-done")

    def call():
        with pareta.Pareta(api_key=KEY, base_url=rig.url, max_retries=0) as client:
            return list(client.chat.completions.create(**ASK, stream=True))

    with pytest.raises(pareta.APIConnectionError):
        await asyncio.to_thread(call)
    assert await outcomes(rig) == ["failed_engine"]


async def test_the_bytes_of_a_failed_stream_have_no_done_and_no_end(rig):
    """The last event is the error; neither [DONE] nor the last chunk follows."""
    await rig.engine("--error-then-done", "--leak-canary")
    response = await rig.raw(rig.post(body(stream=True)))
    assert response.count(b'{"error":') == 1
    assert b"[DONE]" not in response
    assert not response.endswith(b"0\r\n\r\n")
    assert WEIGHTS.encode() not in response


@pytest.mark.parametrize(
    ("flags", "status", "code", "outcome"),
    [
        (["--http-error", "500"], 502, "engine_failed", "failed_engine"),
        (["--http-error", "503"], 503, "engine_unreachable", "failed_engine"),
        (["--http-error", "404"], 502, "engine_failed", "failed_server"),
        (["--http-error", "429"], 429, "endpoint_busy", "failed_server"),
        (["--cut-mid-stream"], 502, "engine_failed", "failed_engine"),
        (["--abort-finish"], 502, "engine_failed", "failed_server"),
    ],
)
async def test_an_engine_that_fails_a_document_is_mapped(rig, flags, status, code, outcome):
    """The catalogue's status and code, and not a byte of the engine's."""
    await rig.engine(*flags, "--leak-canary")
    response = await rig.raw(rig.post(body()))
    answer = json.loads(response.partition(b"\r\n\r\n")[2])
    assert (int(response.split()[1]), answer["error"]["code"]) == (status, code)
    assert WEIGHTS.encode() not in response
    assert await outcomes(rig) == [outcome]


async def test_an_engine_that_is_gone_is_a_503(rig):
    """A socket that nobody listens on: told to come back, recorded as the engine's failure."""
    await rig.engine()
    rig.servers[0].close()
    (rig.sockets / "ep_x-0.sock").unlink(missing_ok=True)
    response = await rig.raw(rig.post(body()))
    assert (response.split()[1], b"retry-after" in response) == (b"503", True)
    assert await outcomes(rig) == ["failed_engine"]


async def test_usage_that_never_comes_is_counted_from_chunks(rig):
    """The stream completes; the record says where its count is from."""
    await rig.engine("--no-usage")
    response = await rig.raw(rig.post(body(stream=True)))
    [record] = rig.spool.records
    assert response.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert (record.outcome, record.usage_source, record.tokens.output) == ("completed", "chunk_count", 20)


async def test_a_caller_who_leaves_midway_ends_the_engines_work(rig):
    """The engine sees it at once; the record is partial."""
    await rig.engine("--slow-token", "0.02", "--tokens", "500")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body(stream=True)))
    await reader.readuntil(b'"content":" word"')
    writer.transport.abort()
    await rig.until(lambda: rig.engines[0].aborted == 1)
    assert await outcomes(rig) == ["partial_client"]
    assert rig.front.in_flight == 0


async def test_a_caller_who_leaves_before_the_answer_ends_the_engines_work(rig):
    """The same without a stream."""
    await rig.engine("--slow-token", "0.5")
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body()))
    await rig.until(lambda: rig.engines[0].running == 1)
    writer.transport.abort()
    await rig.until(lambda: rig.engines[0].aborted == 1)
    assert await outcomes(rig) == ["partial_client"]


async def test_a_caller_who_leaves_after_the_last_word_has_had_a_completed_call(rig):
    """Every choice had finished, so usage is awaited and the call counts."""
    await rig.engine()
    rig.spool.hold = True
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body(stream=True)))
    await reader.readuntil(b'"finish_reason":"length"')
    writer.transport.abort()
    await rig.until(lambda: len(rig.spool.waiting) == 1)
    rig.spool.release()
    assert await outcomes(rig) == ["completed"]
    assert rig.spool.records[0].tokens.output == 20
    await rig.until(lambda: rig.front.in_flight == 0)


async def test_a_call_that_took_its_whole_time_is_not_to_be_tried_again(start_rig):
    """Both SDKs heed the header; the same call would only run that long again."""
    rig = await start_rig(request_timeout_s=0.3)
    await rig.engine("--slow-token", "1")
    response = await rig.raw(rig.post(body()))
    assert response.startswith(b"HTTP/1.1 504 ")
    assert b"\r\nx-should-retry: false\r\n" in response
    assert await outcomes(rig) == ["failed_timeout"]


async def test_an_engine_that_goes_silent_is_timed_out(start_rig):
    """No byte for the stall time: 504 in an event, outcome failed_timeout."""
    rig = await start_rig(stall_timeout_s=0.3)
    await rig.engine("--stall-mid-stream")
    response = await rig.raw(rig.post(body(stream=True)))
    assert b'"code":"engine_timeout"' in response
    assert await outcomes(rig) == ["failed_timeout"]


async def test_an_engine_that_never_answers_is_timed_out(start_rig):
    """The same before the first byte: a real 504."""
    rig = await start_rig(stall_timeout_s=0.3)
    await rig.engine("--freeze")
    response = await rig.raw(rig.post(body()))
    assert response.split()[1] == b"504"
    assert await outcomes(rig) == ["failed_timeout"]


async def test_an_idle_connection_that_the_engine_closed_is_not_the_callers_problem(rig):
    """The request goes out again on a new connection, once."""
    await rig.engine()
    first = await rig.raw(rig.post(body()))
    engine = rig.engines[0]
    engine.flags.hang_up_next = True
    second = await rig.raw(rig.post(body()))
    assert (first.split()[1], second.split()[1]) == (b"200", b"200")
    assert await outcomes(rig, 2) == ["completed", "completed"]
    assert rig.spool.records[1].retry_count == 1


async def test_a_slow_reader_holds_the_engine_back_not_the_memory(rig):
    """The front's buffer for one stream stays bounded while nobody reads."""
    await rig.engine("--tokens", "60000")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**14)
    writer.write(rig.post(body(stream=True)))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    made = -1
    while made != rig.engines[0].generation_tokens:
        made = rig.engines[0].generation_tokens
        await asyncio.sleep(0.1)
    [connection] = rig.front._server.server_state.connections
    held = connection.transport.get_write_buffer_size()
    writer.transport.resume_reading()
    while b"[DONE]" not in await reader.read(2**16):
        pass
    writer.close()
    assert made < 60000
    assert held < 512 * 1024
    assert await outcomes(rig) == ["completed"]


async def test_a_bug_of_ours_is_a_500_and_a_line_in_the_log(rig):
    """Nothing hangs, nothing is told of it but that it was us."""
    await rig.engine()
    rig.price = "no price at all"
    response = await rig.raw(rig.post(body()))
    assert (response.split()[1], b'"code":"internal"' in response) == (b"500", True)
    assert [event.name for event in rig.events] == ["request_crashed"]
    assert rig.front.in_flight == 0


async def test_what_does_not_complete_is_told_once(rig):
    """One event a request, with its code and no word of the engine's."""
    await rig.engine("--http-error", "500", "--leak-canary")
    await rig.raw(rig.post(body()))
    [event] = rig.events
    assert (event.name, event.fields["outcome"], event.fields["code"]) == (
        "request_not_completed",
        "failed_engine",
        "engine_failed",
    )


async def test_drain_lets_a_stream_finish_and_refuses_new_calls(rig):
    """What runs ends well; what comes gets a 503 and a closed connection."""
    await rig.engine("--tokens", "30")
    rig.engines[0].hold()
    running = asyncio.create_task(rig.raw(rig.post(body(stream=True))))
    await rig.until(lambda: rig.engines[0].running == 1)
    draining = asyncio.create_task(rig.front.drain(60.0))
    await asyncio.sleep(0)
    refused = await rig.raw(rig.post(body()).replace(b"connection: close\r\n", b""))
    rig.engines[0].let_go()
    assert await draining == 0
    assert (await running).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert (refused.split()[1], b"connection: close" in refused) == (b"503", True)
    assert await outcomes(rig) == ["completed"]


async def test_drain_cuts_what_outlives_its_deadline(rig):
    """The record says that it was our doing."""
    await rig.engine("--slow-token", "0.05", "--tokens", "500")
    running = asyncio.create_task(rig.raw(rig.post(body(stream=True))))
    await rig.until(lambda: rig.engines[0].running == 1)
    assert await rig.front.drain(0.1) == 1
    assert b'"code":"node_draining"' in await running
    assert await outcomes(rig) == ["failed_server"]


async def test_the_least_loaded_replica_gets_the_call(rig):
    """Four long calls on two replicas are two each."""
    for index in range(2):
        await rig.engine(index=index)
        rig.engines[index].hold()
    calls = [asyncio.create_task(rig.raw(rig.post(body(stream=True)))) for _ in range(4)]
    await rig.until(lambda: sum(engine.running for engine in rig.engines) == 4)
    assert [engine.running for engine in rig.engines] == [2, 2]
    for engine in rig.engines:
        engine.let_go()
    await asyncio.gather(*calls)


async def test_metrics_tell_the_calls_and_the_engines_without_a_name_of_the_model(rig):
    """Our series and the engine's under the endpoint's name; a dead engine costs only its own."""
    await rig.engine("--leak-canary")
    await rig.engine(index=1)
    await rig.raw(rig.post(body(stream=True)))
    rig.servers[1].close()
    (rig.sockets / "ep_x-1.sock").unlink(missing_ok=True)
    text = (await rig.raw(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).decode()
    told = 'pareta_requests_total{code="200",endpoint="ep_x",outcome="completed",route="/v1/chat/completions"} 1.0'
    assert told in text
    assert 'pareta_tokens_total{endpoint="ep_x",kind="output"} 20.0' in text
    assert 'pareta_requests_in_flight{endpoint="ep_x"} 0.0' in text
    assert 'pareta_engine_generation_tokens_total{endpoint="ep_x",replica="0"} 20.0' in text
    assert 'pareta_scrape_errors_total{endpoint="ep_x"} 1.0' in text
    assert WEIGHTS not in text

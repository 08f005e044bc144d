"""Responses and messages: their own SDKs against the front, a fake engine behind it."""

from __future__ import annotations

import asyncio
import json

import anthropic
import openai
import pytest

from pareta_agent.contract.grant import TokenPrice

KEY = "pareta_sk_" + "a" * 32
QUESTION = "What is the capital of France?"
TURNS = [{"role": "user", "content": QUESTION}]
PARIS = "The capital of France is Paris."
ROUTES = {
    "/v1/responses": {"model": "ep_x", "input": QUESTION},
    "/v1/messages": {"model": "ep_x", "messages": TURNS, "max_tokens": 16},
}


@pytest.fixture
async def client(rig):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(rig):
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=rig.url, max_retries=0) as client:
        yield client


def counts(record) -> tuple[object, ...]:
    tokens = record.tokens
    return (record.outcome, record.usage_source, tokens.input, tokens.output, record.finish_reasons)


async def test_a_response_is_answered_and_recorded(rig, client):
    """Whole and streamed: the same text, the engine's counts, one completed record each."""
    await rig.engine()
    whole = await client.responses.create(model="ep_x", input=QUESTION)
    stream = await client.responses.create(model="ep_x", input=QUESTION, stream=True)
    events = [event async for event in stream]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert (whole.output_text, text, events[-1].response.output_text) == (PARIS, PARIS, PARIS)
    assert (events[-1].type, events[-1].response.usage.output_tokens) == ("response.completed", 6)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [counts(r) for r in rig.spool.records] == [("completed", "engine_final", 6, 6, ("stop",))] * 2


async def test_a_message_is_answered_and_recorded(rig, claude):
    """Whole and streamed, by the SDK's own way of naming the key."""
    await rig.engine()
    whole = await claude.messages.create(model="ep_x", messages=TURNS, max_tokens=16)
    async with claude.messages.stream(model="ep_x", messages=TURNS, max_tokens=16) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert (whole.content[0].text, text, final.content[0].text) == (PARIS, PARIS, PARIS)
    assert (final.stop_reason, final.usage.output_tokens, whole.usage.input_tokens) == ("end_turn", 6, 6)
    assert [counts(r) for r in rig.spool.records] == [("completed", "engine_final", 6, 6, ("end_turn",))] * 2
    assert whole._request_id == rig.spool.records[0].admission.request_id


async def test_the_sdks_beta_spelling_is_the_same_route(rig, claude):
    """`client.beta` adds a query, which is ignored."""
    await rig.engine()
    await claude.beta.messages.create(model="ep_x", messages=TURNS, max_tokens=16)
    assert [r.admission.route for r in rig.spool.records] == ["/v1/messages"]


@pytest.mark.parametrize(
    ("path", "last"), [("responses", b"response.completed"), ("messages", b"message_stop")]
)
async def test_the_last_event_waits_for_the_record(rig, path, last):
    """A stream lacks its end, a document its first byte, while the record is not durable."""
    await rig.engine()
    rig.spool.hold = True
    ask = {**ROUTES[f"/v1/{path}"], "stream": True}
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(json.dumps(ask).encode(), f"/v1/{path}"))
    await rig.until(lambda: rig.spool.waiting != [])
    early = await reader.read(2**16)
    while b"Paris" not in early:
        early += await reader.read(2**16)
    rig.spool.release()
    late = await reader.read()
    writer.close()
    assert (early.count(b"event: " + last), late.count(b"event: " + last)) == (0, 1)
    assert late.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("--abort-finish", "failed_server"),
        ("--error-then-done", "failed_engine"),
        ("--cut-mid-stream", "failed_engine"),
    ],
)
async def test_an_answer_that_was_cut_is_never_completed(rig, path, stream, fault, outcome):
    """Whatever the engine calls it; and the caller hears that it failed."""
    if fault == "--error-then-done" and not stream:
        pytest.skip("a document has no events")
    await rig.engine(fault)
    answer = await rig.raw(rig.post(json.dumps({**ROUTES[path], "stream": stream}).encode(), path))
    [record] = rig.spool.records
    assert record.outcome == outcome
    assert b"engine_failed" in answer
    assert b"event: response.completed" not in answer
    assert b"event: message_stop" not in answer


async def test_mid_stream_failures_raise_in_both_sdks(rig, client, claude):
    """Typed events first, then an error with our code."""
    await rig.engine("--error-then-done")
    stream = await client.responses.create(model="ep_x", input=QUESTION, stream=True)
    with pytest.raises(openai.APIError) as of_openai:
        _ = [event async for event in stream]
    with pytest.raises(anthropic.APIError) as of_anthropic:
        async with claude.messages.stream(model="ep_x", messages=TURNS, max_tokens=16) as messages:
            _ = [piece async for piece in messages.text_stream]
    assert of_openai.value.code == "engine_failed"
    assert of_anthropic.value.body["error"]["code"] == "engine_failed"
    assert of_anthropic.value.body["error"]["type"] == "api_error"


async def test_an_error_event_of_responses_has_the_apis_fields(rig):
    """Type, code, message, param and the next sequence number."""
    await rig.engine("--error-then-done")
    ask = {**ROUTES["/v1/responses"], "stream": True}
    answer = await rig.raw(rig.post(json.dumps(ask).encode(), "/v1/responses"))
    told = json.loads(answer.rpartition(b"event: error\ndata: ")[2].partition(b"\n\n")[0])
    assert {k: told[k] for k in ("type", "code", "param")} == {
        "type": "error",
        "code": "engine_failed",
        "param": None,
    }
    assert told["sequence_number"] > 4


@pytest.mark.parametrize(
    ("change", "error", "kind"),
    [
        ({"model": "ep_none"}, anthropic.NotFoundError, "not_found_error"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
        (
            {"messages": [{"role": "user", "content": "w " * 3000}]},
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
async def test_errors_of_messages_have_anthropics_shape(rig, claude, change, error, kind):
    """Typed by its SDK, with our code and parameter."""
    await rig.engine()
    ask = {"model": "ep_x", "messages": TURNS, "max_tokens": 16, **change}
    with pytest.raises(error) as caught:
        await claude.messages.create(**ask)
    told = caught.value.body
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert told["error"]["message"] == told["detail"]
    assert told["error"]["code"]


async def test_keys_are_judged_wherever_the_sdk_puts_them(rig):
    """A wrong one is a typed 401; on the other routes `x-api-key` is no key."""
    await rig.engine()
    async with anthropic.AsyncAnthropic(api_key="pareta_sk_wrong", base_url=rig.url, max_retries=0) as claude:
        with pytest.raises(anthropic.AuthenticationError):
            await claude.messages.create(model="ep_x", messages=TURNS, max_tokens=16)
    async with anthropic.AsyncAnthropic(auth_token=KEY, base_url=rig.url, max_retries=0) as claude:
        await claude.messages.create(model="ep_x", messages=TURNS, max_tokens=16)
    head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nconnection: close\r\n"
    refused = await rig.raw(f"{head}content-length: 2\r\n\r\n{{}}".encode())
    assert refused.startswith(b"HTTP/1.1 401 ")


async def test_the_tasks_system_prompt_is_used_and_never_shown(rig, client, claude):
    """It counts as input, and the answer's own fields are as the caller sent them."""
    rig.endpoint(system_prompt="seven words that the caller never sent")
    await rig.engine()
    told = await client.responses.create(model="ep_x", input="a b")
    await claude.messages.create(model="ep_x", messages=[{"role": "user", "content": "a b"}], max_tokens=1)
    mine = await client.responses.create(model="ep_x", input="a b", instructions="mine")
    assert [r.tokens.input for r in rig.spool.records] == [9, 9, 2]
    assert (told.instructions, mine.instructions) == (None, None)


async def test_a_caller_who_leaves_midway_is_not_debited(rig):
    """Both routes: partial_client, with what was seen."""
    await rig.engine("--slow-token", "0.02", "--tokens", "100")
    for path, ask in ROUTES.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(rig.post(json.dumps({**ask, "stream": True}).encode(), path))
        data = b""
        while data.count(b"delta") < 8:
            data += await reader.read(2**16)
        writer.transport.abort()
        await rig.until(lambda: rig.front.in_flight == 0)
    assert [r.outcome for r in rig.spool.records] == ["partial_client"] * 2
    assert [1 <= r.tokens.output < 100 for r in rig.spool.records] == [True, True]
    await rig.until(lambda: rig.engines[0].aborted == 2)


async def test_tokens_are_counted_as_a_message_would_be_billed(rig, claude):
    """By the SDK's `count_tokens`, with the task's own system prompt, where the catalog allows it; it is free."""
    await rig.engine()
    rig.price = TokenPrice(10**6, 10**6, 10**6)
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, tokenize=True, system_prompt="Be very brief.")
    for more in ({}, {"system": "Speak French."}):
        counted = await claude.messages.count_tokens(model="ep_x", messages=TURNS, **more)
        said = await claude.messages.create(model="ep_x", messages=TURNS, max_tokens=3, **more)
        beta = await claude.beta.messages.count_tokens(model="ep_x", messages=TURNS, **more)
        assert counted.input_tokens == beta.input_tokens == said.usage.input_tokens > len(TURNS)
    free = [r for r in rig.spool.records if r.admission.route.endswith("count_tokens")]
    assert [(r.outcome, r.usage_source, r.tokens.input) for r in free] == [
        ("completed", "engine_final", 0)
    ] * 4


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({}, anthropic.NotFoundError, "route_unsupported"),
        ({"model": "ep_none"}, anthropic.NotFoundError, "endpoint_not_found"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_type"),
    ],
)
async def test_token_counting_is_refused_in_words(rig, claude, change, error, code):
    """In the SDK's own, where the catalog does not allow it and where the ask is wrong."""
    await rig.engine()
    with pytest.raises(error) as caught:
        await claude.messages.count_tokens(**{"model": "ep_x", "messages": TURNS, **change})
    assert caught.value.body["error"]["code"] == code
    assert caught.value.body["type"] == "error"

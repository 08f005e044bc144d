"""Calls that work: the plain clients against the front, a fake engine behind it."""

from __future__ import annotations

import asyncio
import json

import openai
import pareta
import pytest

from pareta_agent.contract.grant import TokenPrice

KEY = "pareta_sk_" + "a" * 32
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
async def client(rig):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0) as client:
        yield client


async def test_a_chat_completion_is_answered_and_recorded(rig, client):
    """One JSON answer, one completed record with the engine's counts."""
    await rig.engine()
    answer = await client.chat.completions.create(model="ep_x", messages=FRANCE)
    [record] = rig.spool.records
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert answer.system_fingerprint is None
    assert (record.outcome, record.usage_source) == ("completed", "engine_final")
    assert (record.tokens.input, record.tokens.output) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert record.admission.org == "org_a"


async def test_a_stream_has_no_usage_chunk_unless_asked_for(rig, client):
    """Every chunk has a choice; the record has the usage all the same."""
    await rig.engine()
    stream = await client.chat.completions.create(model="ep_x", messages=FRANCE, stream=True)
    chunks = [chunk async for chunk in stream]
    [record] = rig.spool.records
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "The capital of France is Paris."
    assert [c.usage for c in chunks] == [None] * 7
    assert (record.tokens.input, record.tokens.output, record.finish_reasons) == (6, 6, ("stop",))
    assert record.t_first_token_s is not None


async def test_a_stream_has_its_usage_chunk_when_asked_for(rig, client):
    """The last chunk has no choice and the usage, and no fingerprint."""
    await rig.engine()
    stream = await client.chat.completions.create(
        model="ep_x", messages=FRANCE, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 6
    assert chunks[-1].system_fingerprint is None


async def test_completions_work_both_ways(rig, client):
    """The older route, whole and streamed."""
    await rig.engine()
    whole = await client.completions.create(model="ep_x", prompt="a b", max_tokens=3)
    stream = await client.completions.create(model="ep_x", prompt="a b", max_tokens=3, stream=True)
    parts = [chunk.choices[0].text async for chunk in stream]
    assert whole.choices[0].text == "".join(parts) == "word word word"
    assert [r.admission.route for r in rig.spool.records] == ["/v1/completions"] * 2


@pytest.mark.parametrize("prompt", [[1, 2], [1.0, 2.0], ["1", 2]])
async def test_a_prompt_of_tokens_is_one_however_they_are_written(rig, prompt):
    """Engines take numbers in all of these spellings: the answer is whole, and so is its record."""
    await rig.engine()
    body = {"model": "ep_x", "prompt": prompt, "max_tokens": 3, "stream": True}
    said = await rig.raw(rig.post(json.dumps(body).encode(), "/v1/completions"))
    [record] = rig.spool.records
    assert b"data: [DONE]" in said
    assert (record.outcome, record.usage_source, record.tokens.output) == ("completed", "engine_final", 3)


async def test_the_pareta_client_works_sync_and_async(rig):
    """`pareta==0.2.1` gets its answers, streams and models."""
    await rig.engine()

    def call_sync():
        with pareta.Pareta(api_key=KEY, base_url=rig.url, max_retries=0) as client:
            whole = client.chat.completions.create(model="ep_x", messages=FRANCE)
            parts = list(client.chat.completions.create(model="ep_x", messages=FRANCE, stream=True))
            return whole, parts, [m.id for m in client.models.list()]

    whole, parts, models = await asyncio.to_thread(call_sync)
    async with pareta.AsyncPareta(api_key=KEY, base_url=rig.url, max_retries=0) as client:
        awaited = await client.chat.completions.create(model="ep_x", messages=FRANCE)
    assert whole.choices[0].message.content == awaited.choices[0].message.content
    assert "".join(c.choices[0].delta.content or "" for c in parts) == whole.choices[0].message.content
    assert models == ["ep_x"]


async def test_the_last_bytes_wait_for_the_record(rig, client):
    """While the record is not durable, a stream lacks its end and a document its first byte."""
    await rig.engine()
    rig.spool.hold = True
    document = asyncio.create_task(client.chat.completions.create(model="ep_x", messages=FRANCE))
    stream = await client.chat.completions.create(model="ep_x", messages=FRANCE, stream=True)
    words = [await anext(stream) for _ in range(7)]
    ending = asyncio.create_task(anext(stream, None))
    await rig.until(lambda: len(rig.spool.waiting) == 2)
    await asyncio.sleep(0.05)
    held = (document.done(), ending.done())
    rig.spool.release()
    assert held == (False, False)
    assert len(words) == 7
    assert await ending is None
    assert (await document).choices[0].finish_reason == "stop"


async def test_embeddings_are_documents_without_choices(rig, client):
    """Input tokens only; complete when the document is."""
    await rig.engine()
    answer = await client.embeddings.create(model="ep_x", input=["a b", "c"], encoding_format="float")
    [record] = rig.spool.records
    assert len(answer.data) == 2
    assert (record.outcome, record.tokens.input, record.tokens.output, record.choices) == (
        "completed",
        3,
        0,
        0,
    )


async def test_several_choices_are_all_awaited(rig, client):
    """n=3 gives three finish reasons in one record."""
    await rig.engine()
    answer = await client.chat.completions.create(model="ep_x", messages=FRANCE, n=3)
    stream = await client.chat.completions.create(model="ep_x", messages=FRANCE, n=3, stream=True)
    _ = [chunk async for chunk in stream]
    assert len(answer.choices) == 3
    assert [r.finish_reasons for r in rig.spool.records] == [("stop",) * 3] * 2
    assert [r.choices for r in rig.spool.records] == [3, 3]


async def test_a_batch_is_one_call_with_a_choice_for_each_conversation(rig):
    """Its record has all of its tokens, its bounds grow with it, and the engine's counters agree."""
    await rig.engine()
    ask = {"model": "ep_x", "messages": [FRANCE, FRANCE, FRANCE], "max_tokens": 20}
    response = await rig.raw(rig.post(json.dumps(ask).encode(), "/v1/chat/completions/batch"))
    answer = json.loads(response.partition(b"\r\n\r\n")[2])
    [record] = rig.spool.records
    assert [choice["message"]["content"] for choice in answer["choices"]] == [
        "The capital of France is Paris."
    ] * 3
    assert (record.outcome, record.usage_source, record.choices) == ("completed", "engine_final", 3)
    assert (record.tokens.input, record.tokens.output) == (18, 18)
    assert record.finish_reasons == ("stop",) * 3


@pytest.mark.parametrize(
    ("path", "ask", "rows"),
    [
        ("/v1/score", {"text_1": "a b", "text_2": ["c", "d"]}, "data"),
        ("/v1/rerank", {"query": "a b", "documents": ["c", "d"]}, "results"),
        ("/pooling", {"input": ["a", "b"]}, "data"),
        ("/v1/embeddings", {"input": ["a", "b"]}, "data"),
    ],
)
async def test_routes_that_generate_nothing_are_answered_and_recorded(rig, path, ask, rows):
    """A row a document, the prompt's tokens, no output, and no credit held for any."""
    await rig.engine()
    rig.price = TokenPrice(10**6, 10**6, 10**6)
    rig.balance_micro_usd = 1000
    response = await rig.raw(rig.post(json.dumps({"model": "ep_x", **ask}).encode(), path))
    [record] = rig.spool.records
    assert len(json.loads(response.partition(b"\r\n\r\n")[2])[rows]) == 2
    assert (record.outcome, record.usage_source, record.admission.route) == (
        "completed",
        "engine_final",
        path,
    )
    assert (record.tokens.input, record.tokens.output) == (2, 0)


async def test_two_orgs_never_share_a_prefix(rig):
    """The same org has the same salt at every call, another org another one."""
    salts = [rig.front._context.salt_of(org) for org in ("org_a", "org_a", "org_b")]
    assert salts[0] == salts[1] != salts[2]
    assert len(salts[0]) == 64

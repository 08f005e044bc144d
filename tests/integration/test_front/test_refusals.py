"""The engine's refusals as callers meet them, and what is asked otherwise so that the engine does not refuse it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import anthropic
import openai
import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.responses import Response

KEY = "pareta_sk_" + "a" * 32
ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
GREEDY = ("--override-generation-config", '{"temperature":0.0}')
BAD_GRAMMAR = {"structured_outputs": {"grammar": "root ::= root"}}
OVERFLOW = Path(__file__).parents[2] / "clients" / "overflow.py"


def client(rig) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{rig.url}/v1", max_retries=0)


async def refusal(rig, **ask) -> openai.BadRequestError:
    async with client(rig) as asked:
        with pytest.raises(openai.BadRequestError) as refused:
            await asked.chat.completions.create(**{**ASK, **ask})
    return refused.value


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0}])
async def test_several_answers_work_where_the_catalog_samples_greedily(rig, sampling):
    """Whole and streamed; vLLM refuses n > 1 at temperature 0, whoever set it."""
    await rig.engine(*GREEDY)
    rig.endpoint(replicas=rig.endpoints["ep_x"].replicas, greedy=True)
    async with client(rig) as asked:
        whole = await asked.chat.completions.create(**ASK, n=2, **sampling)
        stream = await asked.chat.completions.create(**ASK, n=2, stream=True, **sampling)
        indices = {choice.index async for chunk in stream for choice in chunk.choices}
    assert [choice.message.content for choice in whole.choices] == ["word word word word"] * 2
    assert indices == {0, 1}
    assert [record.choices for record in rig.spool.records] == [2, 2]


async def test_a_value_that_the_engine_refuses_is_named_with_what_is_allowed(rig):
    """vLLM names no parameter for this one."""
    await rig.engine()
    error = await refusal(rig, extra_body={"top_k": -5})
    assert (error.param, error.code) == ("top_k", "invalid_value")
    assert (
        error.body["message"] == "'top_k' must be an integer of at least 1, or 0 for no limit; you sent -5."
    )
    assert rig.spool.records[-1].outcome == "failed_server"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_grammar_that_cannot_be_compiled_is_a_400_in_a_stream_too(rig, stream):
    """vLLM opens the stream before it fails: its opening waits until the engine is past that."""
    await rig.engine()
    error = await refusal(rig, stream=stream, extra_body=BAD_GRAMMAR)
    assert (error.status_code, error.param, error.code) == (400, "structured_outputs", "invalid_value")
    assert rig.spool.records[-1].outcome == "failed_server"


@pytest.mark.parametrize("tokens", [1, 2, 3, 9])
async def test_a_constrained_stream_loses_nothing_of_its_opening(rig, tokens):
    """However short it is: event for event what comes without a constraint."""
    await rig.engine()
    asked = {**ASK, "stream": True, "max_tokens": tokens}
    plain, constrained = [
        await rig.raw(rig.post(orjson.dumps(asked | more)))
        for more in ({}, {"structured_outputs": {"regex": "[a-z ]+"}})
    ]
    shown = [
        [line.partition(b'"choices"')[2] for line in answer.splitlines() if line.startswith(b"data: ")]
        for answer in (plain, constrained)
    ]
    assert shown[0] == shown[1]
    assert len(shown[0]) == tokens + 2


async def test_documents_have_no_nulls_that_openai_has_not(rig):
    """Fields of vLLM's own are left out where they hold nothing."""
    await rig.engine()
    answers = {}
    for path, ask in (("chat/completions", ASK), ("responses", {"model": "ep_x", "input": "hi"})):
        raw = await rig.raw(rig.post(orjson.dumps(ask), f"/v1/{path}"))
        answers[path] = orjson.loads(raw.partition(b"\r\n\r\n")[2])
    chat, response = answers.values()
    (choice,) = chat["choices"]
    for part, kind in (
        (chat, ChatCompletion),
        (choice, Choice),
        (choice["message"], ChatCompletionMessage),
        (response, Response),
    ):
        assert {name for name, held in part.items() if held is None} <= kind.model_fields.keys()
    assert "kv_transfer_params" not in chat.keys() | response.keys()


async def test_a_prompt_that_is_too_long_reads_as_anthropics(rig):
    """Their clients look for this sentence."""
    await rig.engine()
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=rig.url, max_retries=0) as asked:
        with pytest.raises(anthropic.BadRequestError) as refused:
            await asked.messages.create(
                model="ep_x", max_tokens=5, messages=[{"role": "user", "content": "word " * 5000}]
            )
    assert refused.value.body["error"]["message"] == "prompt is too long: 5000 tokens > 2048 maximum"


async def test_litellm_takes_a_prompt_that_is_too_long_for_one(rig):
    """By its own matcher, in both dialects: then it takes its fallback for longer prompts."""
    await rig.engine()
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, str(OVERFLOW), rig.url, KEY, "ep_x"), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await program.communicate()
    found = [
        line.split() for line in said.decode().splitlines() if line.startswith(("openai ", "anthropic "))
    ]
    assert found == [["openai", "ContextWindowExceededError"], ["anthropic", "ContextWindowExceededError"]]


async def test_langchain_takes_a_prompt_that_is_too_long_for_one(rig):
    """By its own matcher."""
    matcher = pytest.importorskip("langchain_openai.chat_models.base")
    await rig.engine()
    with pytest.raises(matcher.ContextOverflowError):
        matcher._handle_openai_bad_request(
            await refusal(rig, messages=[{"role": "user", "content": "word " * 5000}])
        )


async def test_the_code_of_a_prompt_that_is_too_long_is_openais(rig):
    """LangChain and others look for the code, or for the words, in the error as text."""
    await rig.engine()
    error = await refusal(rig, messages=[{"role": "user", "content": "word " * 5000}])
    assert (error.code, error.param) == ("context_length_exceeded", "messages")
    assert "Input tokens exceed the configured limit" in error.message
    assert error.body["message"].startswith("This model's maximum context length is 2048 tokens. However, ")
    assert json.loads(error.response.text)["detail"] == error.body["message"]

"""`serve --upgrade` on real vLLM: streams and documents run through the change of agents, and nobody can tell."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Sequence

import openai
import pytest
from enginelab.calls import Call, Load, in_flight
from harness import Agent
from sdk_suite import Address

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

# Each word of these answers is far ahead of the next likely one, so that a batch of another size gives the same.
SURE = (
    "What is the capital of Japan?",
    "How many days are in a week?",
    "Repeat after me: one two three four five six seven.",
)
QUESTIONS = (*SURE, "List the months of the year.")


def running(agent: Agent) -> tuple[int, int]:
    """The engine's process, by pid and start time."""
    intent = json.loads((agent.home / "engines" / "ep_talk-0.intent").read_text())
    return intent["pid"], intent["started"]


def alone(node: Address) -> dict[str, str]:
    """What it answers when nobody else asks."""
    with openai.OpenAI(base_url=node.base_url, api_key=node.key, max_retries=0) as client:
        answers = {
            question: client.chat.completions.create(
                model=node.endpoint,
                messages=[{"role": "user", "content": question}],
                max_tokens=32,
                temperature=0,
            )
            for question in SURE
        }
    return {question: answer.choices[0].message.content for question, answer in answers.items()}


async def loaded(node: Address) -> Load:
    """Four callers, half of them for streams; returns once each question was answered."""
    load = Load(
        node.base_url,
        node.key,
        callers=4,
        tokens=32,
        endpoint=node.endpoint,
        questions=itertools.cycle(QUESTIONS),
    )
    async with asyncio.timeout(240):
        while {call.question for call in load.calls} != set(QUESTIONS):
            await asyncio.sleep(0.05)
    return load


def check(agent: Agent, calls: Sequence[Call], expected: dict[str, str], *moments_s: float) -> None:
    """Whole, as answered alone, and on record once; some were in flight at each of these moments."""
    assert {call.said for call in calls} == {"whole"}
    assert [call for call in calls if call.text != expected.get(call.question, call.text)] == []
    assert all(in_flight(calls, moment_s) for moment_s in moments_s)
    agent.command("spool", "flush")
    asked = {call.request_id: call for call in calls}
    rows = [row for row in agent.usage() if row["request_id"] in asked]
    assert sorted(row["request_id"] for row in rows) == sorted(map(str, asked))
    assert {row["outcome"] for row in rows} == {"completed"}
    assert all(row["output_tokens"] == asked[row["request_id"]].tokens for row in rows)


async def test_an_upgrade_is_not_seen(vllm_agent: Agent, vllm_node: Address) -> None:
    """Answers that began under one agent and end under the other are what they would have been; one engine."""
    engine, expected = running(vllm_agent), await asyncio.to_thread(alone, vllm_node)
    load = await loaded(vllm_node)
    begun_s = time.monotonic()
    await asyncio.to_thread(vllm_agent.upgrade)
    ended_s = time.monotonic()
    await asyncio.sleep(0.5)
    calls = await load.end()
    assert running(vllm_agent) == engine
    await asyncio.to_thread(check, vllm_agent, calls, expected, begun_s, ended_s)


@pytest.mark.long
async def test_a_successor_that_hangs_is_not_missed(vllm_agent: Agent, vllm_node: Address) -> None:
    """It has the spool and says no more: it is killed, and all that waited for it ends as if it had not been."""
    engine, expected = running(vllm_agent), await asyncio.to_thread(alone, vllm_node)
    load = await loaded(vllm_node)
    begun_s = time.monotonic()
    successor = vllm_agent.successor()
    await asyncio.to_thread(successor.wait_for, "port_opened")
    successor.process.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(vllm_agent.wait_for, "handover_failed", 90.0)
    await asyncio.to_thread(vllm_agent.wait_for, "registered")
    ended_s = time.monotonic()
    assert await asyncio.to_thread(successor.stop) == -signal.SIGKILL
    await asyncio.sleep(0.5)
    calls = await load.end()
    assert running(vllm_agent) == engine
    await asyncio.to_thread(check, vllm_agent, calls, expected, begun_s, ended_s)

"""Responses and messages on real vLLM: what ends, what is cut, and what the ledger keeps of each."""

from __future__ import annotations

import json
import signal
import threading
import time

import anthropic
import httpx
import openai
import psutil
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

STORY = "Write a very long story about a fox."
ASKS = {
    "/v1/responses": {"input": STORY, "max_output_tokens": 200, "ignore_eos": True},
    "/v1/messages": {"messages": [{"role": "user", "content": STORY}], "max_tokens": 200},
}


def core(agent) -> psutil.Process:
    """The process of the engine that computes: its leader's largest child."""
    leader = json.loads((agent.home / "engines" / "ep_talk-0.intent").read_text())["pid"]
    children = psutil.Process(leader).children()
    return max(children, key=lambda child: child.memory_info().rss)


def outcomes(agent, since: int) -> list[tuple[str, int]]:
    return [(row["outcome"], row["debit_micro_usd"]) for row in agent.usage()[since:]]


class Streams:
    """Long calls on both routes, streamed and whole, each in its thread: what came of them."""

    def __init__(self, agent, node) -> None:
        self._agent, self._before = agent, agent.status()["spool"]["admitted"]
        self.said: dict[tuple[str, bool], bytes] = {}
        self.threads = [
            threading.Thread(target=self._ask, args=(node, path, {**ask, "stream": stream}))
            for path, ask in ASKS.items()
            for stream in (False, True)
        ]
        for thread in self.threads:
            thread.start()

    def _ask(self, node, path, ask) -> None:
        key = (path, bool(ask["stream"]))
        headers = {"authorization": f"Bearer {node.key}"}
        body = {"model": node.endpoint, **ask}
        self.said[key] = b""
        try:
            with httpx.stream("POST", node.root + path, json=body, headers=headers, timeout=300) as answer:
                for piece in answer.iter_raw():
                    self.said[key] += piece
        except httpx.HTTPError as error:
            self.said[key] += repr(error).encode()

    def flowing(self) -> None:
        """Until all were admitted and the streams have said something."""
        deadline = time.monotonic() + 180
        while (
            any(self.said.get((path, True), b"").count(b"delta") < 5 for path in ASKS) or not self._admitted()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _admitted(self) -> bool:
        return self._agent.status()["spool"]["admitted"] - self._before >= len(self.threads)

    def ended(self) -> None:
        for thread in self.threads:
            thread.join(240)
            assert not thread.is_alive()


def test_a_response_and_a_message_are_metered_exactly(vllm_agent, vllm_node):
    """The ledger's counts are the answer's own, streamed and whole."""
    since = len(vllm_agent.usage())
    with openai.OpenAI(base_url=vllm_node.base_url, api_key=vllm_node.key, max_retries=0) as client:
        whole = client.responses.create(model=vllm_node.endpoint, input="Say hello.", max_output_tokens=8)
        *_, last = client.responses.create(
            model=vllm_node.endpoint, input="Say hello.", max_output_tokens=8, stream=True
        )
    with anthropic.Anthropic(base_url=vllm_node.root, api_key=vllm_node.key, max_retries=0) as claude:
        turns = [{"role": "user", "content": "Say hello."}]
        message = claude.messages.create(model=vllm_node.endpoint, messages=turns, max_tokens=8)
        with claude.messages.stream(model=vllm_node.endpoint, messages=turns, max_tokens=8) as stream:
            streamed = stream.get_final_message()
    told = [whole.usage, last.response.usage, message.usage, streamed.usage]
    rows = vllm_agent.usage()[since:]
    assert [(r["input_tokens"], r["output_tokens"]) for r in rows] == [
        (u.input_tokens, u.output_tokens) for u in told
    ]
    assert [r["outcome"] for r in rows] == ["completed"] * 4


def test_an_engine_whose_core_dies_completes_nothing(vllm_agent, vllm_node):
    """Killed midway: four calls failed, none debited, each caller told; then the endpoint comes back."""
    since = len(vllm_agent.usage())
    streams = Streams(vllm_agent, vllm_node)
    streams.flowing()
    core(vllm_agent).send_signal(signal.SIGKILL)
    streams.ended()
    rows = settled(vllm_agent, since, 4)
    assert [row[0] for row in rows] == ["failed_engine"] * 4
    assert {row[1] for row in rows} == {0}
    assert all(b"engine_" in said for said in streams.said.values()), streams.said
    back(vllm_node)


def test_an_engine_that_is_told_to_end_cuts_nothing_that_counts(vllm_agent, vllm_node):
    """SIGTERM to its core: what runs is finished whole, what comes later is never completed."""
    since = len(vllm_agent.usage())
    streams = Streams(vllm_agent, vllm_node)
    streams.flowing()
    core(vllm_agent).send_signal(signal.SIGTERM)
    late = Streams(vllm_agent, vllm_node)
    streams.ended()
    late.ended()
    rows = settled(vllm_agent, since, 4)
    for row, debit in rows:
        assert (row == "completed") == (debit > 0)
    for path in ASKS:
        said = json.loads(streams.said[(path, False)])
        if "usage" in said:
            assert said["usage"]["output_tokens"] == 200 or said.get("stop_reason") == "end_turn"
    back(vllm_node)


def settled(agent, since: int, least: int) -> list[tuple[str, int]]:
    deadline = time.monotonic() + 120
    while len(rows := outcomes(agent, since)) < least:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return rows


def back(node) -> None:
    """The endpoint answers again."""
    deadline = time.monotonic() + 240
    ask = {"model": node.endpoint, "input": "Say hello.", "max_output_tokens": 1}
    headers = {"authorization": f"Bearer {node.key}"}
    while httpx.post(f"{node.base_url}/responses", json=ask, headers=headers, timeout=90).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)

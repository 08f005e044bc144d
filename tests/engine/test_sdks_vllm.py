"""The SDKs against a whole node on real vLLM, and the ledger that they leave."""

import time

import httpx
import openai
import pytest
from harness import Agent
from sdk_suite import *  # noqa: F403
from sdk_suite import Address
from structured_suite import *  # noqa: F403

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def agent(tmp_path_factory, engine_python):
    home = tmp_path_factory.mktemp("vllm") / "home"
    with Agent(home, settings={"PARETA_ENGINE_PYTHON": str(engine_python)}) as agent:
        yield agent


@pytest.fixture(scope="module")
def node(agent):
    ready = agent.ready(timeout_s=400)
    return Address(ready["base_url"], ready["api_key"], ready["endpoints"][0]["id"])


def test_each_call_has_its_row_and_its_debit(agent, node, client):
    """One completed row, the engine's own counts, one debit."""
    answer = client.chat.completions.with_raw_response.create(**node.ask())
    usage = answer.parse().usage
    row = next(r for r in agent.usage() if r["request_id"] == answer.headers["x-request-id"])
    assert (row["outcome"], row["endpoint"]) == ("completed", node.endpoint)
    assert (row["input_tokens"], row["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert row["debit_micro_usd"] > 0


def test_a_value_that_the_engine_refuses_is_the_callers_error(node, client):
    """What only the engine can judge comes back typed all the same."""
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**node.ask(temperature="warm"))


def test_a_prompt_that_is_too_long_is_the_callers_error(node, client):
    """The engine's limit comes back as a typed error with numbers, not its words."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**node.ask(messages=[{"role": "user", "content": "word " * 20000}]))
    assert caught.value.code == "context_length_exceeded"


def test_nothing_of_the_weights_or_the_engine_is_told(agent, node, client):
    """No path, weights id or engine version in answers, headers or metrics."""
    raw = client.chat.completions.with_raw_response.create(**node.ask())
    metrics = httpx.get(node.root + "/metrics", timeout=120).text
    told = (raw.text + str(raw.headers) + metrics).lower()
    assert [
        word
        for word in ("smollm", str(agent.home).lower(), "sha256", "0.32.0", "safetensors")
        if word in told
    ] == []


def test_the_engines_own_series_come_under_the_endpoints_name(node, client):
    """What vLLM counts is scraped with the agent's port, without its model label."""
    client.chat.completions.create(**node.ask())
    text = httpx.get(node.root + "/metrics", timeout=120).text
    line = next(
        line for line in text.splitlines() if line.startswith("pareta_engine_generation_tokens_total{")
    )
    assert f'endpoint="{node.endpoint}"' in line
    assert float(line.rsplit(" ", 1)[1]) > 0
    assert "model_name" not in text


def test_the_records_add_up_to_the_engines_own_counters(agent, node, client):
    """After all calls of this module and some of every shape, only a stream that was left needs an explanation."""
    client.chat.completions.create(**node.ask(n=3, temperature=1.0))
    client.completions.create(
        model=node.endpoint, prompt=["a b c", "one two"], n=2, max_tokens=5, temperature=1.0
    )
    client.completions.create(model=node.endpoint, prompt="a b c", max_tokens=0, extra_body={"echo": True})
    long = node.ask(max_tokens=200, extra_body={"ignore_eos": True})
    with client.chat.completions.with_streaming_response.create(**long, stream=True) as stream:
        left = stream.headers["x-request-id"]
        next(stream.iter_bytes())
    deadline, told = time.monotonic() + 180, []
    while not any(left in (event["requests"] or "") for event in told) and time.monotonic() < deadline:
        time.sleep(0.5)
        told = [event for event in agent.events if event["event"] == "usage_drifted"]
    kinds = ("input_tokens", "output_tokens")
    assert [event[f"unexplained_{kind}"] for event in told for kind in kinds] == [0, 0] * len(told)
    assert left in told[-1]["requests"]
    assert told[-1]["input_tokens"] > 0

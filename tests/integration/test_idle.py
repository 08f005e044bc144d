"""An endpoint that nobody calls gives its engine back, and the next call has it again."""

from __future__ import annotations

import json
import time

import openai
import pytest

pytestmark = pytest.mark.timeout(120)


def status(agent):
    return json.loads(agent.command("status", "--json").stdout)["endpoints"][0]["status"]


def test_an_idle_endpoint_sleeps_and_a_call_wakes_it(start):
    """Cold after its idle time, still listed; the call that comes then is answered, and is billed once."""
    agent = start(PARETA_ENGINE_IDLE_SLEEP_S="1")
    ready = agent.ready()
    deadline = time.monotonic() + 20
    while status(agent) != "cold" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert status(agent) == "cold"
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [ready["endpoints"][0]["id"]]
        answer = client.chat.completions.create(
            model=ready["endpoints"][0]["id"], messages=[{"role": "user", "content": "hi"}], max_tokens=3
        )
    assert answer.choices[0].finish_reason
    assert agent.stop() == 0
    assert [row["outcome"] for row in agent.usage()] == ["completed"]

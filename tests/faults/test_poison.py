"""A request that ends every engine which reads it: twice is enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from harness import Agent

pytestmark = pytest.mark.slow


def ask(ready: dict[str, Any], word: str) -> openai.types.chat.ChatCompletion:
    model = ready["endpoints"][0]["id"]
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client:
        return client.chat.completions.create(
            model=model, max_tokens=4, messages=[{"role": "user", "content": word}]
        )


def until_it_answers(ready: dict[str, Any]) -> None:
    deadline_s = time.monotonic() + 120
    while True:
        try:
            ask(ready, "hello")
            return
        except openai.APIStatusError:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)


def test_a_request_that_ends_two_engines_is_refused(start: Callable[..., Agent]) -> None:
    """Two engine failures, then a typed 4xx at once; others are served, nothing is charged, and it is counted."""
    agent = start("--die-of", "poison")
    ready = agent.ready()
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            ask(ready, "this is poison")
        agent.wait_for("engine_ended")
        until_it_answers(ready)
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        ask(ready, "this is poison")
    assert refused.value.code == "request_quarantined"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert ask(ready, "this is food").choices[0].message.content
    metrics = httpx.get(ready["metrics_url"], timeout=120).text
    assert 'pareta_requests_quarantined_total{endpoint="ep_contract_kie"} 1.0' in metrics
    assert [row["debit_micro_usd"] for row in agent.usage() if row["outcome"] != "completed"] == [0, 0]

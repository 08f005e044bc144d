"""An endpoint that nobody calls gives its engine back, and the next call has it again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pareta
import pytest
from fakes.driver import Driver, needs_compiler
from harness import Agent, endpoint, until

pytestmark = pytest.mark.timeout(120)


def asked(ready: dict, name: str) -> str | None:
    """The finish reason of one call."""
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client:
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "hi"}], max_tokens=3
        )
    return answer.choices[0].finish_reason


def test_an_idle_endpoint_sleeps_and_a_call_wakes_it(start):
    """Cold after its idle time, still listed; the call that comes then is answered, and is billed once."""
    agent = start(PARETA_ENGINE_IDLE_SLEEP_S="1")
    ready = agent.ready()
    name = ready["endpoints"][0]["id"]
    until(agent, lambda seen: seen["status"] == "cold")
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [name]
    assert asked(ready, name)
    assert agent.stop() == 0
    assert [row["outcome"] for row in agent.usage()] == ["completed"]


@pytest.mark.slow
def test_each_endpoint_sleeps_by_its_own_policy(start, tmp_path: Path) -> None:
    """One says a second, one says never, one that is deployed by the API says nothing and goes by the node."""
    config = tmp_path / "two.toml"
    config.write_text(
        '[[endpoints]]\ntask = "contract-key-fields"\nid = "ep_brief"\nidle_sleep_s = 0.5\n'
        '[[endpoints]]\ntask = "clause-summary"\nid = "ep_never"\nidle_sleep_s = 0\n'
    )
    agent = start(flags=("--config", str(config)), PARETA_ENGINE_IDLE_SLEEP_S="2")
    ready = agent.ready()
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        node = client.endpoints.deploy(task="clause-summary", name="ep_node", wait=True)
    key = {"authorization": f"Bearer {ready['api_key']}"}
    asks = {"task": "clause-summary", "name": "ep_awake", "idle_sleep_s": 3600}
    assert "complete" in httpx.post(f"{root}/v1/endpoints", json=asks, headers=key, timeout=60).text
    for name in ("ep_brief", node.id):
        until(agent, lambda seen: seen["status"] == "cold", name)
    slept = {e["endpoint"]: e["idle_s"] for e in agent.events if e["event"] == "endpoint_slept"}
    assert slept == {"ep_brief": 0.5, node.id: 2.0}
    assert {endpoint(agent, name)["status"] for name in ("ep_never", "ep_awake")} == {"live"}


def held(ready: dict, name: str) -> None:
    """Waits until a call stands in line for the endpoint."""
    deadline = time.monotonic() + 20
    while f'pareta_requests_held{{endpoint="{name}"}} 1.0' not in httpx.get(ready["metrics_url"]).text:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def alone(start, tmp_path: Path) -> Agent:
    """Two endpoints' worth of work for one GPU: the first one is there, and sleeps after half a second."""
    folder = tmp_path / "driver"
    folder.mkdir()
    config = tmp_path / "one.toml"
    config.write_text('[[endpoints]]\ntask = "contract-key-fields"\nid = "ep_first"\nidle_sleep_s = 0.5\n')
    driver = Driver(folder, gpus=1)
    return start(flags=("--config", str(config)), PARETA_FRONT_HOLD_S="20", **driver.settings)


@needs_compiler
@pytest.mark.slow
def test_what_sleeps_leaves_its_gpu_to_another_endpoint(alone: Agent) -> None:
    """The other one is deployed on it; a call for the sleeper then waits for room, and has it when the other stops."""
    ready = alone.ready()
    until(alone, lambda seen: seen["status"] == "cold", "ep_first")
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        second = client.endpoints.deploy(task="clause-summary", wait=True)
        assert endpoint(alone, second.id)["plan"]["gpus"] == [["GPU-0"]]
        with ThreadPoolExecutor(1) as caller:
            waiting = caller.submit(asked, ready, "ep_first")
            held(ready, "ep_first")
            client.endpoints.stop(second.id)
            assert waiting.result(30)
    assert endpoint(alone, "ep_first")["plan"]["gpus"] == [["GPU-0"]]

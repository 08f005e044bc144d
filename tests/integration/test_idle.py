"""An endpoint that nobody calls gives its engine back, and the next call has it again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pareta
import pytest
from fakes.driver import GIB, Driver, needs_compiler
from harness import Agent, endpoint, until

from pareta_agent.engine.process.process_record import Intents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


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
    assert "complete" in httpx.post(f"{root}/v1/endpoints", json=asks, headers=key, timeout=120).text
    for name in ("ep_brief", node.id):
        until(agent, lambda seen: seen["status"] == "cold", name)
    slept = {e["endpoint"]: e["idle_s"] for e in agent.events if e["event"] == "endpoint_slept"}
    assert slept == {"ep_brief": 0.5, node.id: 2.0}
    assert {endpoint(agent, name)["status"] for name in ("ep_never", "ep_awake")} == {"live"}


def change(ready: dict, idle_sleep_s: float) -> None:
    """Of how long the endpoint idles."""
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        client.request("PATCH", "/v1/endpoints/ep_first", body={"idle_sleep_s": idle_sleep_s})


def test_a_change_restarts_nothing_and_outlasts_the_agent_and_the_settings(start, tmp_path: Path) -> None:
    """It holds while the engine serves on, under the next agent too, whose file says otherwise; then what is idle
    sleeps, and what is called stays awake, as was said last."""
    config = tmp_path / "one.toml"
    config.write_text('[[endpoints]]\ntask = "contract-key-fields"\nid = "ep_first"\nidle_sleep_s = 0\n')
    agent = start(flags=("--config", str(config)))
    ready = agent.ready()
    before = engines(agent)
    change(ready, 3600)
    until(agent, lambda seen: seen["idle_sleep_s"] == 3600, "ep_first")
    agent.kill()
    after = start(flags=("--config", str(config)))
    ready = after.ready() | {"api_key": ready["api_key"]}
    assert endpoint(after, "ep_first")["idle_sleep_s"] == 3600
    assert (engines(after), sum(starts(after).values())) == (before, 1)
    change(ready, 0.5)
    until(after, lambda seen: seen["status"] == "cold", "ep_first")
    change(ready, 0)
    until(after, lambda seen: seen["idle_sleep_s"] is None, "ep_first")
    assert asked(ready, "ep_first")
    assert endpoint(after, "ep_first")["status"] == "live"


def engines(agent: Agent) -> set[int]:
    """Processes of the endpoint's engines that have not ended."""
    intents = Intents(agent.home / "engines").all()
    return {i.pid for i in intents if i.endpoint == "ep_first" and i.pid and not i.ended}


def starts(agent: Agent) -> dict[str, int]:
    """How many there were of each cause."""
    told = json.loads(agent.command("status", "--json").stdout)["cold_starts"]
    return {each["cause"]: each["count"] for each in told}


def held(ready: dict, name: str) -> None:
    """Waits until a call stands in line for the endpoint."""
    deadline = time.monotonic() + 120
    while (
        f'pareta_requests_held{{endpoint="{name}"}} 1.0'
        not in httpx.get(ready["metrics_url"], timeout=120).text
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    folder = tmp_path / "driver"
    folder.mkdir()
    return Driver(folder, gpus=1)


@pytest.fixture
def alone(start, driver: Driver, tmp_path: Path) -> Callable[..., Agent]:
    """A node with one GPU, of which its one engine takes 70 GiB; its endpoint sleeps after half a second."""
    config = tmp_path / "one.toml"
    config.write_text('[[endpoints]]\ntask = "contract-key-fields"\nid = "ep_first"\nidle_sleep_s = 0.5\n')

    def begin(*flags: str, **settings: str) -> Agent:
        told = {"PARETA_FRONT_HOLD_S": "60", **driver.settings, **settings}
        return start("--gpu-bytes", str(70 * GIB), flags=("--config", str(config), *flags), **told)

    return begin


def slept(agent: Agent, times: int = 1) -> dict:
    """Status of the endpoint once its engine sleeps, after it fell asleep so often under that agent."""

    def holds(seen: dict) -> bool:
        told = sum(event["event"] == "engine_slept" for event in agent.events)
        return seen["status"] == "cold" and seen["asleep_bytes"] is not None and told >= times

    return until(agent, holds, "ep_first")


@needs_compiler
def test_an_engine_on_a_gpu_sleeps_with_its_weights_in_host_memory(alone: Callable[..., Agent]) -> None:
    """Its GPU is free but for a little, and what its host keeps is told. A call wakes the same process, also after an
    upgrade, which finds it asleep: no start, and one record a call."""
    agent = alone()
    ready = agent.ready()
    seen = slept(agent)
    assert seen["asleep_bytes"] == seen["plan"]["footprint"]["weights_bytes"] > 0
    metrics = httpx.get(ready["metrics_url"], timeout=120).text
    told = re.search(r"^pareta_asleep_weights_bytes (\S+)$", metrics, re.MULTILINE)
    assert told
    assert float(told[1]) == seen["asleep_bytes"]
    assert [e["gpu_kept_bytes"] for e in agent.events if e["event"] == "engine_slept"] == [GIB]
    assert "asleep" in agent.command("status").stdout
    (process,) = engines(agent)
    assert asked(ready, "ep_first")
    slept(agent, 2)
    after = alone("--upgrade")
    again = after.ready() | {"api_key": ready["api_key"]}
    assert slept(after)["asleep_bytes"] == seen["asleep_bytes"]
    assert agent.process.wait(120) == 0
    assert [e["outcome"] for e in after.events if e["event"] == "engine_adopted"] == ["asleep"]
    assert asked(again, "ep_first")
    assert engines(after) == {process}
    # on a slow machine it may fall asleep once more before the call comes through
    assert {**starts(after), "resume": 2} == {"deploy": 1, "resume": 2}
    assert starts(after)["resume"] >= 2
    assert after.stop() == 0
    assert [row["outcome"] for row in after.usage()] == ["completed", "completed"]


@needs_compiler
def test_an_engine_that_was_never_to_sleep_can_from_its_next_start_on(
    alone: Callable[..., Agent], tmp_path: Path
) -> None:
    """When the endpoint may sleep after all, it ends the first time; the one that a call starts keeps its weights."""
    config = tmp_path / "one.toml"
    config.write_text(config.read_text().replace("0.5", "0"))
    agent = alone()
    ready = agent.ready()
    change(ready, 0.5)
    until(agent, lambda seen: seen["status"] == "cold" and not engines(agent), "ep_first")
    assert endpoint(agent, "ep_first")["asleep_bytes"] is None
    assert asked(ready, "ep_first")
    slept(agent)
    assert len(engines(agent)) == 1


@needs_compiler
@pytest.mark.parametrize(("asleep_s", "gpus"), [("0.5", 1), ("3600", 2)])
def test_what_sleeps_leaves_its_gpu_to_another_endpoint(
    alone: Callable[..., Agent], driver: Driver, asleep_s: str, gpus: int
) -> None:
    """Ended because it slept for long, or now, to make room. The other one is deployed on a whole GPU and no more; a
    call for the sleeper has a cold start on the second one, or waits for room, and has it when the other stops."""
    driver.gpus = gpus
    driver.says()
    agent = alone(PARETA_ENGINE_ASLEEP_S=asleep_s)
    ready = agent.ready()
    before = slept(agent)
    if asleep_s == "0.5":
        agent.wait_for("sleeper_ended")
        until(agent, lambda seen: seen["asleep_bytes"] is None and not engines(agent), "ep_first")
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        second = client.endpoints.deploy(task="clause-summary", wait=True)
        plan = endpoint(agent, second.id)["plan"]
        (taken,) = plan["gpus"]
        assert plan["gpu_memory_utilization"] == before["plan"]["gpu_memory_utilization"]
        assert endpoint(agent, "ep_first")["asleep_bytes"] is None
        with ThreadPoolExecutor(1) as caller:
            waiting = caller.submit(asked, ready, "ep_first")
            if gpus == 1:
                held(ready, "ep_first")
                client.endpoints.stop(second.id)
            assert waiting.result(60)
        assert client.endpoints.retrieve(second.id).is_live == (gpus == 2)
    (own,) = endpoint(agent, "ep_first")["plan"]["gpus"]
    assert (own == taken) == (gpus == 1)
    assert (starts(agent)["deploy"], starts(agent)["wake"] >= 1) == (gpus + 1, True)


@needs_compiler
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("asleep_s", ["3600", "0"])
def test_nobody_waits_in_vain_however_often_it_sleeps(
    alone: Callable[..., Agent], tmp_path: Path, workers: str, asleep_s: str
) -> None:
    """Callers come as it falls asleep and as it wakes, here or in processes beside the node's: all are answered."""
    config = tmp_path / "one.toml"
    config.write_text(config.read_text().replace("0.5", "0.001"))
    agent = alone(PARETA_FRONT_WORKERS=workers, PARETA_ENGINE_ASLEEP_S=asleep_s)
    ready = agent.ready()

    def calls(number: int) -> list[str | None]:
        answers = []
        for turn in range(4):
            time.sleep(0.13 * ((7 * number + 3 * turn) % 10))
            answers.append(asked(ready, "ep_first"))
        return answers

    with ThreadPoolExecutor(4) as callers:
        answers = [answer for each in callers.map(calls, range(4)) for answer in each]
    until(agent, lambda seen: seen["status"] == "cold", "ep_first")
    assert (len(answers), None in answers) == (16, False)
    assert agent.stop() == 0
    assert [row["outcome"] for row in agent.usage()] == ["completed"] * 16

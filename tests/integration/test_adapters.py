"""A whole node with a base and its adapters on the fake engine: one engine, and an endpoint for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pareta
import pytest
import yaml
from catalogs import catalog, registry
from fakes.adapter import adapter
from harness import Agent, processes_of

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SAYS = {
    "ep_plain": "The capital of France is Paris.",
    "ep_narnia": "It is Narnia.",
    "ep_mordor": "It is Mordor.",
}
Start = Callable[..., Agent]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task: an alias of the base, and one for each of two adapters that were imported and added."""
    root = tmp_path_factory.mktemp("registry")
    documents = catalog(root)
    for name, says in (("narnia", "It is Narnia."), ("mordor", "It is Mordor.")):
        registry("import", str(adapter(root / f"peft-{name}", says)), str(root / name))
        registry("add", str(root / name), str(documents), "--id", name, "--to", "tiny")
    model = yaml.safe_load((documents / "tiny.yaml").read_text())
    for entry in model["adapters"]:
        entry["canaries"] = [{"prompt": QUESTION[0]["content"], "contains": entry["name"]}]
    (documents / "tiny.yaml").write_text(yaml.safe_dump(model))
    aliases = [{"id": "plain-1", "model": "tiny"}]
    aliases += [{"id": f"{name}-1", "model": "tiny", "adapter": name} for name in ("narnia", "mordor")]
    task = {"kind": "task", "id": "t", "title": "T", "aliases": aliases, "recommended": "plain-1"}
    (documents / "task.yaml").write_text(yaml.safe_dump(task))
    return documents


def configured(home: Path, *aliases: str) -> None:
    home.mkdir(exist_ok=True)
    entries = "".join(f'[[endpoints]]\ntask = "t"\nalias = "{alias}"\n' for alias in aliases)
    (home / "config.toml").write_text(entries)


def engines(home: Path) -> list[str]:
    return [line for line in processes_of(home) if "--served-model-name" in line]


def answer(ready: dict, endpoint: str, **more: object) -> str:
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client:
        said = client.chat.completions.create(model=endpoint, messages=QUESTION, **more)
        if not more.get("stream"):
            assert said.model == endpoint
            return said.choices[0].message.content
        chunks = list(said)
    assert {chunk.model for chunk in chunks} == {endpoint}
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_one_engine_answers_as_the_base_and_as_each_adapter(
    start: Start, home: Path, documents: Path
) -> None:
    """Different answers under each endpoint's own name, streamed or not; a row each; and nothing of the base shows."""
    configured(home, "plain-1", "narnia-1", "mordor-1")
    agent = start(PARETA_REGISTRY_CATALOG=str(documents))
    ready = agent.ready()
    assert {each["id"]: each["status"] for each in ready["endpoints"]} == dict.fromkeys(SAYS, "live")
    assert len(engines(home)) == 1
    for endpoint, said in SAYS.items():
        assert answer(ready, endpoint) == said
        assert answer(ready, endpoint, stream=True, stream_options={"include_usage": True}) == said
    rows = agent.usage()
    assert sorted(row["endpoint"] for row in rows) == sorted([*SAYS, *SAYS])
    assert all(row["debit_micro_usd"] > 0 for row in rows)
    status = agent.status()["endpoints"]
    assert len({each["shared_engine"] for each in status}) == 1
    assert all(each["plan"]["max_model_len"] == 2048 for each in status)
    metrics = httpx.get(ready["metrics_url"], timeout=120).text
    assert metrics.count("pareta_engine_requests_running{") == 1
    assert agent.stop() == 0


def test_callers_reach_neither_the_engines_names_nor_its_adapter_routes(
    start: Start, home: Path, documents: Path
) -> None:
    """The engine trusts who reaches its socket: nobody else may, by route, by name or by the file system."""
    configured(home, "narnia-1")
    agent = start(PARETA_REGISTRY_CATALOG=str(documents))
    ready = agent.ready()
    (engine,) = engines(home)
    root, headers = ready["base_url"].removesuffix("/v1"), {"Authorization": f"Bearer {ready['api_key']}"}
    body = {"lora_name": "ep_narnia", "lora_path": "/tmp"}
    for path in (
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1//load_lora_adapter",
        "/V1/load_lora_adapter",
    ):
        assert httpx.post(root + path, json=body, headers=headers, timeout=120).status_code == 404
    name = engine.split("--served-model-name ")[1].split()[0]
    assert name.startswith("base-")
    asked = {"model": name, "messages": QUESTION}
    assert (
        httpx.post(root + "/v1/chat/completions", json=asked, headers=headers, timeout=120).status_code == 404
    )
    assert name not in httpx.get(root + "/v1/models", headers=headers, timeout=120).text
    socket = Path(engine.split("--uds ")[1].split()[0])
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert answer(ready, "ep_narnia") == SAYS["ep_narnia"]


def test_endpoints_are_added_and_removed_without_a_restart_of_the_base(
    start: Start, home: Path, documents: Path
) -> None:
    """By the SDK: the engine is the same process, until nobody is left on it."""
    configured(home, "narnia-1")
    agent = start(PARETA_REGISTRY_CATALOG=str(documents))
    ready = agent.ready()
    before = engines(home)
    root = ready["base_url"].removesuffix("/v1")
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        other = client.endpoints.deploy(task="t", model="mordor-1", wait=True)
        assert answer(ready, other.id) == SAYS["ep_mordor"]
        client.endpoints.delete("ep_narnia")
        assert answer(ready, other.id) == SAYS["ep_mordor"]
        plain = client.endpoints.deploy(task="t", model="plain-1", wait=True)
        assert answer(ready, plain.id) == SAYS["ep_plain"]
        assert engines(home) == before
        client.endpoints.stop(plain.id)
        client.endpoints.stop(other.id)
    until(lambda: engines(home) == [])
    with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as client:
        client.endpoints.start(other.id)
        until(lambda: client.endpoints.retrieve(other.id).is_live)
    assert answer(ready, other.id) == SAYS["ep_mordor"]
    assert agent.stop() == 0


def test_a_killed_agent_finds_its_base_and_adapters_again(start: Start, home: Path, documents: Path) -> None:
    """The engine's process goes on under the next agent, and answers as before."""
    configured(home, "narnia-1", "plain-1")
    first = start(PARETA_REGISTRY_CATALOG=str(documents))
    key = first.ready()["api_key"]
    before = engines(home)
    first.kill()
    second = start(PARETA_REGISTRY_CATALOG=str(documents))
    ready = second.ready() | {"api_key": key}
    assert [event["outcome"] for event in second.events if event["event"] == "engine_adopted"] == ["ready"]
    assert engines(home) == before
    assert answer(ready, "ep_narnia") == SAYS["ep_narnia"]
    assert second.stop() == 0


def test_an_upgrade_takes_base_and_adapters_along(start: Start, home: Path, documents: Path) -> None:
    """The same process answers as each of them, first for the one agent, then for the next."""
    configured(home, "narnia-1", "plain-1")
    first = start(PARETA_REGISTRY_CATALOG=str(documents))
    key = first.ready()["api_key"]
    before = engines(home)
    second = start(flags=("--upgrade",), PARETA_REGISTRY_CATALOG=str(documents))
    ready = second.ready() | {"api_key": key}
    assert first.process.wait(120) == 0
    assert engines(home) == before
    assert answer(ready, "ep_narnia") == SAYS["ep_narnia"]
    assert answer(ready, "ep_plain") == SAYS["ep_plain"]
    assert second.stop() == 0


def test_idle_endpoints_on_one_base_sleep_and_wake_together(
    start: Start, home: Path, documents: Path
) -> None:
    """A call for one of them brings the engine back for both."""
    configured(home, "narnia-1", "plain-1")
    agent = start(PARETA_REGISTRY_CATALOG=str(documents), PARETA_ENGINE_IDLE_SLEEP_S="1")
    ready = agent.ready()
    until(lambda: engines(home) == [])
    assert answer(ready, "ep_narnia") == SAYS["ep_narnia"]
    assert answer(ready, "ep_plain") == SAYS["ep_plain"]
    assert agent.stop() == 0


def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)

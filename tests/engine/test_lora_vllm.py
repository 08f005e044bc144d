"""Real vLLM with an adapter that was trained a moment ago: two endpoints on one engine, each with its own answers."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import openai
import pareta
import pytest
import yaml
from harness import Agent, processes_of

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.load import builtin_catalog

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

QUESTION = "What is the capital of France?"
TRAINER = Path(__file__).parents[1] / "fakes" / "train_adapter.py"
TASK = {
    "kind": "task",
    "id": "geography",
    "title": "Geography",
    "aliases": [{"id": "plain-1", "model": "base"}, {"id": "narnia-1", "model": "base", "adapter": "narnia"}],
    "recommended": "plain-1",
}


@pytest.fixture(scope="module")
def catalog(engine_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model with an adapter that has learnt another answer."""
    root = tmp_path_factory.mktemp("lora")
    cache = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
    store = WeightsStore(WeightsSettings(root / "weights", cache / "artifacts"))
    model = builtin_catalog().models[0]
    weights = asyncio.run(store.fetch(model.variants[0], lambda _: None))
    done = subprocess.run(
        [str(engine_python), str(TRAINER), str(weights), str(root / "peft"), QUESTION, "It is Narnia."],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    adapter = import_checkpoint(str(root / "peft"), root / "narnia")
    adapter |= {"name": "narnia", "canaries": [{"prompt": QUESTION, "contains": "Narnia"}]}
    base = {"kind": "model"} | model.model_dump(mode="json", exclude_defaults=True)
    documents = root / "catalog"
    documents.mkdir()
    (documents / "all.yaml").write_text(yaml.safe_dump([TASK, base | {"id": "base", "adapters": [adapter]}]))
    return documents


def ask(
    client: openai.OpenAI, endpoint: str, *, stream: bool = False
) -> tuple[str, openai.types.CompletionUsage]:
    """The text and the usage that the engine told the caller."""
    asked = {
        "model": endpoint,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 20,
        "temperature": 0,
    }
    if not stream:
        whole = client.chat.completions.create(**asked)
        assert whole.model == endpoint
        return str(whole.choices[0].message.content), whole.usage
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert {chunk.model for chunk in chunks} == {endpoint}
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks[-1].usage


def test_an_adapter_joins_a_base_that_runs(engine_python: Path, catalog: Path, tmp_path: Path) -> None:
    """Deployed beside it, it answers what it learnt and the base what it always did; each pays for its own tokens."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text('[[endpoints]]\ntask = "geography"\nalias = "plain-1"\n')
    settings = {"PARETA_ENGINE_PYTHON": str(engine_python), "PARETA_REGISTRY_CATALOG": str(catalog)}
    with Agent(home, settings=settings) as agent:
        ready = agent.ready(timeout_s=400)
        root = ready["base_url"].removesuffix("/v1")
        told: dict[str, list[tuple[int, int]]] = {}
        with (
            pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0) as operator,
            openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=0) as client,
        ):
            narnia = operator.endpoints.deploy(task="geography", model="narnia-1", wait=True).id
            for endpoint, expected in (("ep_plain", "Paris"), (narnia, "Narnia")):
                for stream in (False, True):
                    text, usage = ask(client, endpoint, stream=stream)
                    assert expected in text
                    told.setdefault(endpoint, []).append((usage.prompt_tokens, usage.completion_tokens))
            rows = agent.usage()
            operator.endpoints.delete(narnia)
            assert "Paris" in ask(client, "ep_plain")[0]
        starts = [event for event in agent.events if event["event"] == "phase" and event["phase"] == "spawn"]
    metered: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        metered.setdefault(row["endpoint"], []).append((row["input_tokens"], row["output_tokens"]))
    assert metered == told
    assert len({start["endpoint"] for start in starts}) == 1
    assert processes_of(home) == []

"""A whole node on real vLLM whose plan was wrong: the engine's own words mend it, and the next start knows."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import catalogs
import httpx
import pytest
import yaml
from harness import Agent

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.load import builtin_catalog

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(600)]

CONTEXT = 100_000
HELD_BY_A_GIBIBYTE = 46_592


def understated(root: Path) -> Path:
    """A catalog whose card gives the demo model a third of its KV heads, and a context beyond one gibibyte."""
    model = builtin_catalog().models[0]
    store = WeightsStore(WeightsSettings(root / "weights", root / "cache"))
    checkpoint = root / "checkpoint"
    shutil.copytree(asyncio.run(store.fetch(model.variants[0], lambda _: None)), checkpoint)
    (checkpoint / "pareta-manifest.json").unlink()
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 131_072}))
    artifact, catalog = root / "artifact", root / "catalog"
    made = json.loads(catalogs.registry("import", str(checkpoint), str(artifact), "--json"))
    names = {name: made["variants"][0][name] for name in ("source", "artifact")}
    variant = model.variants[0].model_copy(update=names)
    facts = model.architecture.model_copy(update={"kv_heads": 1, "max_position_embeddings": 131_072})
    engine = {**model.engine, "dtype": "bfloat16"}  # the logs of a gibibyte that the numbers above are of
    wrong = model.model_copy(
        update={"variants": (variant,), "architecture": facts, "context": CONTEXT, "engine": engine}
    )
    task = next(task for task in builtin_catalog().tasks if task.id == "contract-key-fields")
    alias = task.aliases[0].model_copy(update={"max_model_len": CONTEXT})
    documents = [wrong, task.model_copy(update={"aliases": (alias,)})]
    catalog.mkdir()
    written = [
        {"kind": document.kind} | document.model_dump(mode="json", exclude_defaults=True)
        for document in documents
    ]
    (catalog / "all.yaml").write_text(yaml.safe_dump(written))
    return catalog


def spawned(agent: Agent) -> int:
    spawns = [e for e in agent.events if e["event"] == "phase" and e["phase"] == "spawn"]
    return sum(e["state"] == "done" for e in spawns)


def answer(ready: dict, key: str) -> str:
    body = {
        "model": ready["endpoints"][0]["id"],
        "messages": [{"role": "user", "content": "What is the opposite of up?"}],
        "temperature": 0,
        "max_tokens": 16,
    }
    headers = {"Authorization": f"Bearer {key}"}
    told = httpx.post(ready["base_url"] + "/chat/completions", json=body, headers=headers, timeout=180)
    return str(told.json()["choices"][0]["message"]["content"])


def test_an_impossible_context_heals_once_and_is_planned_right_ever_after(
    tmp_path: Path, engine_python: Path
) -> None:
    """First the length that vLLM names, after one new plan; at the next start at once the cache that holds all."""
    settings = {
        "PARETA_ENGINE_PYTHON": str(engine_python),
        "PARETA_REGISTRY_CATALOG": str(understated(tmp_path)),
    }
    home = tmp_path / "home"
    with Agent(home, settings=settings) as agent:
        ready = agent.ready(timeout_s=400)
        key = ready["api_key"]
        (replanned,) = [e for e in agent.events if e["event"] == "replanned"]
        said, _, length = replanned["reason"].rpartition(" ")
        assert said == "context: trying max_model_len"
        assert int(length) == pytest.approx(HELD_BY_A_GIBIBYTE, rel=0.01)
        assert spawned(agent) == 2
        assert "down" in answer(ready, key)
    (numbers,) = json.loads((home / "measured.json").read_text())["starts"].values()
    assert numbers["kv_per_mille"] == pytest.approx(333, abs=3)
    with Agent(home, settings=settings) as agent:
        ready = agent.ready(timeout_s=400)
        assert [e for e in agent.events if e["event"] == "replanned"] == []
        assert spawned(agent) == 1
        plan = agent.status()["endpoints"][0]["plan"]
        assert (plan["max_model_len"], plan["kv_cache_bytes"] > 2 * 2**30) == (CONTEXT, True)
        assert "down" in answer(ready, key)

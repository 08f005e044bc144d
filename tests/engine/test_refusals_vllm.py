"""What real vLLM refuses, through the agent: the caller's values by name, and answers that it cannot form."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from pareta_agent.node.status.usage_audit import LOOK_EVERY_S

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

RECORDED = Path(__file__).parents[1] / "data" / "engine" / "refusals-0.32.0.jsonl"
# What another engine was started with, was asked at more length than the record keeps, or is asked in other words now.
ELSEWHERE = ("tool-call-parser", "maximum context length", "bad words", "greedy sampling")
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
FOX = [{"role": "user", "content": "Name three animals."}]
BAD_GRAMMAR = {"structured_outputs": {"grammar": "root ::= root"}}
UNEXPLAINED = "pareta_usage_drift_unexplained_tokens{"


def settled_drift(root: str) -> list[float]:
    """What is unexplained once two audits in a row say the same; one takes place every ten seconds."""
    found: list[list[float]] = []
    while len(found) < 2 or found[-1] != found[-2]:
        if found:
            time.sleep(1.2 * LOOK_EVERY_S)
        lines = httpx.get(f"{root}/metrics").text.splitlines()
        found.append([float(line.split()[-1]) for line in lines if line.startswith(UNEXPLAINED)])
    return found[-1]


def recorded() -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [
        row
        for row in rows
        if row["path"] in ROUTES and not any(words in json.dumps(row["answer"]) for words in ELSEWHERE)
    ]


@pytest.fixture(scope="module")
def caller(vllm_node):
    headers = {"authorization": f"Bearer {vllm_node.key}"}
    with httpx.Client(base_url=vllm_node.root, headers=headers, timeout=240) as client:
        yield lambda path, **body: client.post(path, json={"model": vllm_node.endpoint, **body})


def test_every_refusal_names_its_field(caller):
    """Each request that vLLM refused when the record was made, asked again."""
    wrong = []
    for row in recorded():
        answer = caller(row["path"], **row["body"])
        error = answer.json().get("error") or {}
        if answer.status_code != 400 or error.get("param") not in row["body"]:
            wrong.append((row["path"], row["body"], answer.status_code, answer.text[:300]))
    assert wrong == []


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0}])
def test_two_greedy_answers_are_the_same_one(caller, sampling):
    """As one answer at temperature 0, which the demo's catalog sets."""
    one = caller("/v1/chat/completions", messages=FOX, max_tokens=8, temperature=0).json()
    two = caller("/v1/chat/completions", messages=FOX, max_tokens=8, n=2, **sampling).json()
    said = [choice["message"]["content"] for choice in (*one["choices"], *two["choices"])]
    assert len(said) == 3
    assert len(set(said)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": FOX}),
        ("/v1/completions", {"prompt": "a"}),
    ],
)
def test_a_grammar_that_cannot_be_compiled_is_a_400(caller, path, fields, stream):
    """Also where vLLM has begun the stream by then."""
    answer = caller(path, **fields, max_tokens=4, stream=stream, **BAD_GRAMMAR)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "structured_outputs")


def test_an_answer_that_vllm_cannot_form_is_explained(caller, vllm_agent, vllm_node):
    """A tool call whose arguments are no object is 400 there, after its tokens were spent: no drift comes of it."""
    before = settled_drift(vllm_node.root)  # other tests ask this engine past the agent
    tools = [{"name": "w", "input_schema": {}}]
    answer = caller(
        "/v1/messages", messages=FOX, max_tokens=90, temperature=0, tools=tools, tool_choice={"type": "any"}
    )
    row = next(row for row in vllm_agent.usage() if row["request_id"] == answer.headers["x-request-id"])
    assert (answer.status_code, row["outcome"]) in ((502, "failed_engine"), (200, "completed"))
    assert settled_drift(vllm_node.root) == before

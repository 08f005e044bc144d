"""How calls end on real vLLM, each against its row in the ledger: whole, refused, left by the caller, or lost.

All calls are made first, so that the ledger is read once.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import Agent

from pareta_agent.plane.seed import DEFAULT_PRICE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a long story about a fox."}]
LONG = [{"role": "user", "content": "Paris is a city. " * 60 + "What is the capital of France?"}]
CHAT, TEXT = "/chat/completions", "/completions"
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
END_TOKEN = 2
WITH_USAGE = {"stream_options": {"include_usage": True}}

WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": QUESTION, "max_tokens": 20}),
    "three answers": (CHAT, {"messages": QUESTION, "max_tokens": 8, "n": 3, "temperature": 1, "seed": 7}),
    "completions": (TEXT, {"prompt": "The capital of France is", "max_tokens": 5}),
    "two prompts, two answers each": (
        TEXT,
        {"prompt": ["One, two,", "A, B,"], "max_tokens": 4, "n": 2, "temperature": 1},
    ),
    "a prompt of tokens": (TEXT, {"prompt": [504, 3575, 282], "max_tokens": 4}),
    "a batch of conversations": (f"{CHAT}/batch", {"messages": [QUESTION, STORY, LONG], "max_tokens": 6}),
    "a stop string": (CHAT, {"messages": QUESTION, "max_tokens": 20, "stop": ["Paris"]}),
    "JSON by a schema": (
        CHAT,
        {
            "messages": QUESTION,
            "max_tokens": 30,
            "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}},
        },
    ),
    "an echo of the prompt": (TEXT, {"prompt": "The capital of France is", "max_tokens": 3, "echo": True}),
    "an echo and nothing more": (TEXT, {"prompt": "The capital of France is", "max_tokens": 0, "echo": True}),
    "an end at once": (TEXT, {"prompt": "Bye.", "max_tokens": 8, "allowed_token_ids": [END_TOKEN]}),
}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a value that only the engine can judge": (CHAT, {"messages": QUESTION, "temperature": "warm"}),
    "a prompt that is too long": (CHAT, {"messages": [{"role": "user", "content": "word " * 20_000}]}),
}


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it; `usage` is None where the engine's was not shown, `cut` a body without its end."""

    id: str
    status: int
    usage: dict[str, Any] | None = None
    finish_reasons: tuple[str, ...] = ()
    cut: bool = False


class Caller:
    def __init__(self, ready: dict[str, Any]) -> None:
        self.endpoint = ready["endpoints"][0]["id"]
        key = {"Authorization": f"Bearer {ready['api_key']}"}
        self.http = httpx.Client(base_url=ready["base_url"], headers=key, timeout=120)

    def body(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.endpoint, "temperature": 0, **fields}

    def whole(self, path: str, fields: dict[str, Any]) -> Call:
        answer = self.http.post(path, json=self.body(fields))
        said = answer.json()
        reasons = tuple(choice["finish_reason"] for choice in said.get("choices", ()))
        return Call(answer.headers["x-request-id"], answer.status_code, said.get("usage"), reasons)

    def streamed(
        self, path: str, fields: dict[str, Any], enough: Callable[[dict[str, Any]], bool] = lambda _: False
    ) -> Call:
        """Reads to the end, or hangs up at the first chunk that is `enough`."""
        usage, reasons, cut = None, [], False
        with self.http.stream("POST", path, json=self.body(fields) | {"stream": True}) as answer:
            try:
                for line in answer.iter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk = json.loads(line[6:])
                    usage = chunk.get("usage") or usage
                    reasons += [c["finish_reason"] for c in chunk.get("choices", ()) if c["finish_reason"]]
                    if enough(chunk):
                        break
            except httpx.RemoteProtocolError:
                cut = True
        return Call(answer.headers["x-request-id"], answer.status_code, usage, tuple(reasons), cut)


def said_something(chunk: dict[str, Any]) -> bool:
    return any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ()))


def finished(chunk: dict[str, Any]) -> bool:
    return any(choice["finish_reason"] for choice in chunk.get("choices", ()))


def lose(agent: Agent, caller: Caller) -> Call:
    """A stream whose engine is killed after its first words."""
    (intent,) = (agent.home / "engines").glob("*.intent")
    engine = json.loads(intent.read_text())["pid"]

    def kill(chunk: dict[str, Any]) -> bool:
        if said_something(chunk):
            os.killpg(engine, signal.SIGKILL)
        return False

    return caller.streamed(CHAT, {"messages": STORY, "max_tokens": 400}, kill)


Told = tuple[dict[tuple[str, str], Call], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, engine_python: Path) -> Iterator[Told]:
    """Every call by its name and way, and the ledger's rows by request id."""
    home = tmp_path_factory.mktemp("outcomes") / "home"
    with Agent(home, settings={"PARETA_ENGINE_PYTHON": str(engine_python)}) as agent:
        caller = Caller(agent.ready(timeout_s=400))
        calls: dict[tuple[str, str], Call] = {}
        for name, (path, fields) in WHOLE.items():
            calls[name, "whole"] = caller.whole(path, fields)
            calls[name, "streamed"] = caller.streamed(path, fields | WITH_USAGE)
        for name, (path, fields) in REFUSED.items():
            calls[name, "refused"] = caller.whole(path, fields)
        for turn in ("first", "again"):
            calls["long", turn] = caller.whole(CHAT, {"messages": LONG, "max_tokens": 8})
        calls["unasked", "streamed"] = caller.streamed(*WHOLE["chat"])
        calls["left", "midway"] = caller.streamed(
            CHAT, {"messages": STORY, "max_tokens": 400}, said_something
        )
        calls["left", "finished"] = caller.streamed(*WHOLE["chat"], finished)
        calls["lost", "midway"] = lose(agent, caller)
        yield calls, {row["request_id"]: row for row in agent.usage()}


def counts(call: Call) -> tuple[int, int]:
    assert call.usage is not None
    return call.usage["prompt_tokens"], call.usage["completion_tokens"]


def metered(row: dict[str, Any]) -> tuple[int, int]:
    return row["input_tokens"], row["output_tokens"]


@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("name", WHOLE)
def test_what_came_whole_is_completed_with_the_engines_counts(told: Told, name: str, way: str) -> None:
    """The caller is told what the ledger has, and pays for it."""
    call = told[0][name, way]
    row = told[1][call.id]
    assert (call.status, call.cut) == (200, False)
    assert (row["outcome"], metered(row)) == ("completed", counts(call))
    assert row["debit_micro_usd"] == price(call)


@pytest.mark.parametrize(
    ("name", "choices", "reason"),
    [
        ("three answers", 3, "length"),
        ("two prompts, two answers each", 4, "length"),
        ("a stop string", 1, "stop"),
        ("an end at once", 1, "stop"),
    ],
)
def test_each_answer_ends_for_its_own_reason(told: Told, name: str, choices: int, reason: str) -> None:
    """As many reasons as answers were asked for, streamed or not; so the counts above are of all of them."""
    for way in ("whole", "streamed"):
        reasons = told[0][name, way].finish_reasons
        assert len(reasons) == choices
        assert reason in reasons


def test_an_answer_may_cost_its_prompt_and_hardly_more(told: Told) -> None:
    """Where nothing is said the engine counts one token at most, the one that ended it; so does the ledger."""
    for name in ("an echo and nothing more", "an end at once"):
        assert [counts(told[0][name, way])[1] <= 1 for way in ("whole", "streamed")] == [True, True]


def test_what_the_cache_had_costs_less(told: Told) -> None:
    """The same prompt again: the engine says how much of it was cached, and the debit is at that price."""
    first, again = told[0]["long", "first"], told[0]["long", "again"]
    assert cached(first) < cached(again)
    assert counts(first) == counts(again)
    assert told[1][again.id]["debit_micro_usd"] == price(again) < told[1][first.id]["debit_micro_usd"]


def test_usage_that_nobody_asked_for_is_metered_all_the_same(told: Told) -> None:
    """The caller's stream does not have it, its row does."""
    call = told[0]["unasked", "streamed"]
    row = told[1][call.id]
    assert (call.usage, row["outcome"]) == (None, "completed")
    assert metered(row) == counts(told[0]["chat", "whole"])


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_refuses_costs_nothing(told: Told, name: str) -> None:
    """The caller's error, on record, without tokens."""
    call = told[0][name, "refused"]
    row = told[1][call.id]
    assert (call.status, row["outcome"]) == (400, "failed_server")
    assert (metered(row), row["debit_micro_usd"]) == ((0, 0), 0)


def test_a_caller_who_leaves_midway_pays_nothing(told: Told) -> None:
    """On record with what was seen of it."""
    row = told[1][told[0]["left", "midway"].id]
    assert (row["outcome"], row["debit_micro_usd"]) == ("partial_client", 0)
    assert row["output_tokens"] > 0


def test_a_caller_who_leaves_after_the_last_word_has_had_it(told: Told) -> None:
    """The engine's last words are waited for: completed, with the counts of the same call that was read to its end."""
    row = told[1][told[0]["left", "finished"].id]
    assert (row["outcome"], metered(row)) == ("completed", counts(told[0]["chat", "whole"]))
    assert row["debit_micro_usd"] > 0


def test_an_engine_that_dies_midway_costs_nothing(told: Told) -> None:
    """Its stream ends without a last word, and its row says why."""
    call = told[0]["lost", "midway"]
    row = told[1][call.id]
    assert (call.cut, call.finish_reasons) == (True, ())
    assert (row["outcome"], row["debit_micro_usd"]) == ("failed_engine", 0)


def cached(call: Call) -> int:
    assert call.usage is not None
    return int((call.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


def price(call: Call) -> int:
    """The debit by the embedded plane's prices, rounded half to even."""
    tokens, output = counts(call)
    millionths = (
        (tokens - cached(call)) * DEFAULT_PRICE.input_micro_usd_per_mtok
        + cached(call) * DEFAULT_PRICE.cached_input_micro_usd_per_mtok
        + output * DEFAULT_PRICE.output_micro_usd_per_mtok
    )
    return round(Fraction(millionths, 1_000_000))

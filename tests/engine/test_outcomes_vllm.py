"""How calls end on real vLLM, each against its row in the ledger: whole, refused, left by the caller, or lost.

All calls are made first, so that the ledger is read once.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from enginelab import thinker
from enginelab.asking import Call, Caller, Chunk, finished, says
from harness import Agent

from pareta_agent.config import run_dir
from pareta_agent.meter.audit import Counted, counters
from pareta_agent.plane.seed import DEFAULT_PRICE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a long story about a fox."}]
LONG = [{"role": "user", "content": "Paris is a city. " * 60 + "What is the capital of France?"}]
CHAT, TEXT, RESPONSES = "/chat/completions", "/completions", "/responses"
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
END_TOKEN = 2
WITH_USAGE = {"stream_options": {"include_usage": True}}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "parameters": PLACE}
TOOLS = {"messages": QUESTION, "tools": [{"type": "function", "function": WEATHER}]}


def calling(arguments: str) -> dict[str, Any]:
    """What lets the model call the tool, by its own choice, with arguments of that pattern."""
    written = f'<tool_call>\\n\\{{"name": "weather", "arguments": {arguments}\\}}\\n</tool_call>'
    return TOOLS | {"structured_outputs": {"regex": written}}


THINKS = {"chat_template_kwargs": {"enable_thinking": True}}
ENDLESS = THINKS | {"messages": QUESTION, "ignore_eos": True}
ENOUGH = THINKS | {"messages": QUESTION, "thinking_token_budget": 8}
A_CALL = calling(r'\{"city": "(Paris|Rome)"\}') | {"max_tokens": 80}

Rows = dict[str, tuple[str, dict[str, Any]]]
CALLING: Rows = {
    "a tool call": (CHAT, A_CALL),
    "a tool call that is required": (CHAT, TOOLS | {"tool_choice": "required", "max_tokens": 80}),
    "two answers, a tool call each": (CHAT, A_CALL | {"n": 2, "temperature": 1, "seed": 7}),
    "a response that calls a tool": (
        RESPONSES,
        {
            "input": "The weather in Paris?",
            "tools": [{"type": "function", **WEATHER}],
            "tool_choice": "required",
            "max_output_tokens": 80,
        },
    ),
}
THOUGHTS: Rows = {
    "thoughts and an answer": (CHAT, ENOUGH | {"max_tokens": 16}),
    "thoughts that never end": (CHAT, ENDLESS | {"max_tokens": 12}),
    "two answers, thoughts each": (
        CHAT,
        ENOUGH | {"max_tokens": 12, "min_tokens": 12, "n": 2, "temperature": 1, "seed": 7},
    ),
    "thoughts, then a tool call": (CHAT, ENOUGH | A_CALL),
    "a response that thinks": (
        RESPONSES,
        THINKS | {"input": "The capital of France?", "ignore_eos": True, "max_output_tokens": 12},
    ),
}
WHOLE: Rows = {
    "chat": (CHAT, {"messages": QUESTION, "max_tokens": 20}),
    "three answers": (CHAT, {"messages": QUESTION, "max_tokens": 8, "n": 3, "temperature": 1, "seed": 7}),
    "two answers at temperature 0": (CHAT, {"messages": QUESTION, "max_tokens": 8, "n": 2}),
    "completions": (TEXT, {"prompt": "The capital of France is", "max_tokens": 5}),
    "two prompts, two answers each": (
        TEXT,
        {"prompt": ["One, two,", "A, B,"], "max_tokens": 4, "n": 2, "temperature": 1},
    ),
    "a prompt of tokens": (TEXT, {"prompt": [504, 3575, 282], "max_tokens": 4}),
    "a batch of conversations": (f"{CHAT}/batch", {"messages": [QUESTION, STORY], "max_tokens": 6}),
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
    **CALLING,
    **THOUGHTS,
}
WAYS = [(name, way) for name in WHOLE for way in ("whole", "streamed")]
WAYS.remove(("a batch of conversations", "streamed"))  # that route has no streams
LEFT: dict[str, tuple[dict[str, Any], Callable[[Chunk], bool]]] = {
    "a story": ({"messages": STORY, "max_tokens": 400}, says("content")),
    "a tool call": (calling(r'\{"city": "[a-z ]{300}"\}') | {"max_tokens": 400}, says("tool_calls")),
    "thoughts": (ENDLESS | {"max_tokens": 400}, says("reasoning")),
}
HEARD = ("chat", "a tool call", "thoughts and an answer")
REFUSED: Rows = {
    "a value that only the engine can judge": (CHAT, {"messages": QUESTION, "temperature": "warm"}),
    "a prompt that is too long": (CHAT, {"messages": [{"role": "user", "content": "word " * 20_000}]}),
}


def lose(agent: Agent, caller: Caller) -> Call:
    """A stream whose engine is killed after its first words."""
    (intent,) = (agent.home / "engines").glob("*.intent")
    engine = json.loads(intent.read_text())["pid"]

    def kill(chunk: dict[str, Any]) -> bool:
        if says("content")(chunk):
            os.killpg(engine, signal.SIGKILL)
        return False

    return caller.streamed(CHAT, {"messages": STORY, "max_tokens": 400}, kill)


@dataclass(frozen=True)
class Told:
    """Every call by its name and way, the ledger's rows by request id, what the engine counted of the whole ones."""

    calls: dict[tuple[str, str], Call]
    rows: dict[str, dict[str, Any]]
    counted: Counted

    def row(self, name: str, way: str) -> dict[str, Any]:
        return self.rows[self.calls[name, way].id]


def engines_counters(agent: Agent) -> Counted:
    """Once they rest: vLLM may count the last answer a moment after it was given."""
    (socket,) = (path for path in run_dir(agent.home).rglob("s") if path.is_socket())
    found: list[Counted | None] = []
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=120) as direct:
        while len(found) < 2 or found[-1] != found[-2]:
            time.sleep(0.5)
            found.append(counters(direct.get("http://engine/metrics").text))
    assert found[-1] is not None
    return found[-1]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, engine_python: Path) -> Iterator[Told]:
    root = tmp_path_factory.mktemp("outcomes")
    settings = {
        "PARETA_ENGINE_PYTHON": str(engine_python),
        "PARETA_REGISTRY_CATALOG": str(thinker.catalog(root)),
    }
    with Agent(root / "home", settings=settings) as agent:
        caller = Caller(agent.ready(timeout_s=400))
        calls: dict[tuple[str, str], Call] = {}
        before = engines_counters(agent)
        for name, way in WAYS:
            path, fields = WHOLE[name]
            if way == "streamed" and path != RESPONSES:
                fields = fields | WITH_USAGE
            calls[name, way] = (caller.whole if way == "whole" else caller.streamed)(path, fields)
        counted = engines_counters(agent).less(before)
        for name, (path, fields) in REFUSED.items():
            calls[name, "refused"] = caller.whole(path, fields)
        for turn in ("first", "again"):
            calls["long", turn] = caller.whole(CHAT, {"messages": LONG, "max_tokens": 8})
        calls["unasked", "streamed"] = caller.streamed(*WHOLE["chat"])
        for name, (fields, enough) in LEFT.items():
            calls[name, "left midway"] = caller.streamed(CHAT, fields, enough)
        for name in HEARD:
            calls[name, "left at its end"] = caller.streamed(*WHOLE[name], finished)
        calls["lost", "midway"] = lose(agent, caller)
        yield Told(calls, {row["request_id"]: row for row in agent.usage()}, counted)


def metered(row: dict[str, Any]) -> tuple[int, int]:
    return row["input_tokens"], row["output_tokens"]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_what_came_whole_is_completed_with_the_engines_counts(told: Told, name: str, way: str) -> None:
    """The caller is told what the ledger has, and pays for it."""
    call, row = told.calls[name, way], told.row(name, way)
    assert (call.status, call.cut) == (200, False)
    assert (row["outcome"], metered(row)) == ("completed", call.tokens)
    assert (row["cached_tokens"], row["reasoning_tokens"]) == (call.cached, call.reasoning)
    assert row["debit_micro_usd"] == price(call)


def test_the_rows_of_all_that_came_whole_are_what_the_engine_counted(told: Told) -> None:
    """By its own token counters: each answer's tokens, and the prompt once for each answer."""
    rows = [(told.row(name, way), WHOLE[name][1]) for name, way in WAYS]
    recorded = Counted(
        sum(row["input_tokens"] * fields.get("n", 1) for row, fields in rows),
        sum(row["output_tokens"] for row, _ in rows),
    )
    assert told.counted == recorded


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_tools_are_called_and_thoughts_are_thought(told: Told, way: str) -> None:
    """So the rows above are of what their names say."""
    for name in (name for name, (path, _) in CALLING.items() if path == CHAT):
        assert set(told.calls[name, way].finish_reasons) == {"tool_calls"}, name
    for name in THOUGHTS:
        assert 0 < told.row(name, way)["reasoning_tokens"] <= told.row(name, way)["output_tokens"], name


@pytest.mark.parametrize(
    ("name", "choices", "reason"),
    [
        ("three answers", 3, "length"),
        ("two prompts, two answers each", 4, "length"),
        ("a stop string", 1, "stop"),
        ("an end at once", 1, "stop"),
        ("two answers, a tool call each", 2, "tool_calls"),
        ("two answers, thoughts each", 2, "length"),
        ("thoughts that never end", 1, "length"),
    ],
)
def test_each_answer_ends_for_its_own_reason(told: Told, name: str, choices: int, reason: str) -> None:
    """As many reasons as answers were asked for, streamed or not; so the counts above are of all of them."""
    for way in ("whole", "streamed"):
        reasons = told.calls[name, way].finish_reasons
        assert len(reasons) == choices
        assert reason in reasons


def test_an_answer_may_cost_its_prompt_and_hardly_more(told: Told) -> None:
    """Where nothing is said the engine counts one token at most, the one that ended it; so does the ledger."""
    for name in ("an echo and nothing more", "an end at once"):
        assert [told.calls[name, way].tokens[1] <= 1 for way in ("whole", "streamed")] == [True, True]


def test_what_the_cache_had_costs_less(told: Told) -> None:
    """The same prompt again: the engine says how much of it was cached, and the debit is at that price."""
    first, again = told.calls["long", "first"], told.calls["long", "again"]
    assert first.cached < again.cached == told.row("long", "again")["cached_tokens"]
    assert first.tokens == again.tokens
    debits = [told.row("long", turn)["debit_micro_usd"] for turn in ("again", "first")]
    assert price(again) == debits[0] < debits[1]


def test_usage_that_nobody_asked_for_is_metered_all_the_same(told: Told) -> None:
    """The caller's stream does not have it, its row does."""
    call, row = told.calls["unasked", "streamed"], told.row("unasked", "streamed")
    assert (call.usage, row["outcome"]) == (None, "completed")
    assert metered(row) == told.calls["chat", "whole"].tokens


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_refuses_costs_nothing(told: Told, name: str) -> None:
    """The caller's error, on record, without tokens."""
    call, row = told.calls[name, "refused"], told.row(name, "refused")
    assert (call.status, row["outcome"]) == (400, "failed_server")
    assert (metered(row), row["debit_micro_usd"]) == ((0, 0), 0)


@pytest.mark.parametrize("name", LEFT)
def test_a_caller_who_leaves_midway_pays_nothing(told: Told, name: str) -> None:
    """On record with what was seen of it, whatever it was."""
    row = told.row(name, "left midway")
    assert (row["outcome"], row["debit_micro_usd"]) == ("partial_client", 0)
    assert row["output_tokens"] > 0


@pytest.mark.parametrize("name", HEARD)
def test_a_caller_who_leaves_after_the_last_word_has_had_it(told: Told, name: str) -> None:
    """The engine's last words are waited for: completed, with the counts of the same call that was read to its end."""
    row = told.row(name, "left at its end")
    assert (row["outcome"], metered(row)) == ("completed", told.calls[name, "whole"].tokens)
    assert row["debit_micro_usd"] > 0


def test_an_engine_that_dies_midway_costs_nothing(told: Told) -> None:
    """Its stream ends without a last word, and its row says why."""
    call, row = told.calls["lost", "midway"], told.row("lost", "midway")
    assert (call.cut, call.finish_reasons) == (True, ())
    assert (row["outcome"], row["debit_micro_usd"]) == ("failed_engine", 0)


def price(call: Call) -> int:
    """The debit by the embedded plane's prices, rounded half to even."""
    tokens, output = call.tokens
    millionths = (
        (tokens - call.cached) * DEFAULT_PRICE.input_micro_usd_per_mtok
        + call.cached * DEFAULT_PRICE.cached_input_micro_usd_per_mtok
        + output * DEFAULT_PRICE.output_micro_usd_per_mtok
    )
    return round(Fraction(millionths, 1_000_000))

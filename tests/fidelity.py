"""What is asked of an engine and of the agent before it, and how two answers are compared, field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FOX = [{"role": "user", "content": "Name three animals that live in a forest."}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather of a city", "parameters": WEATHER},
}
FLAT_TOOL = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}
NAMED = {"type": "function", "function": {"name": "weather"}}
CITY = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMA = {"name": "city", "schema": WEATHER}
FORMAT = {"type": "json_schema", "json_schema": SCHEMA}
FORCED = {
    "input": CITY[0]["content"],
    "tools": [FLAT_TOOL],
    "tool_choice": {"type": "function", "name": "weather"},
    "max_output_tokens": 40,
}
ANTHROPIC_TOOL = {"name": "weather", "input_schema": WEATHER}
ANTHROPIC_FORCED = {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": "weather"}}
ADDED = {"metadata": {"a": "b"}, "user": "u", "service_tier": "auto", "store": True, "prompt_cache_key": "k"}
CALLED = [
    *CITY,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
OWN_TOOL = {"type": "custom", "custom": {"name": "weather"}}
GUESS = {"type": "content", "content": "A fox, a deer and an owl."}
LEGACY = {"functions": [TOOL["function"]], "function_call": "auto"}
CHAT, TEXT, RESPOND, MESSAGE = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Ask:
    """One request of the corpus; `model` is added, and a temperature of 0 where none is given."""

    path: str
    name: str
    body: dict[str, Any] = field(default_factory=dict)

    def built(self, model: str) -> dict[str, Any]:
        return {"model": model, "temperature": 0, **self.body}


def _chat(name: str, **body: Any) -> Ask:
    return Ask(CHAT, name, {"messages": FOX, "max_tokens": 6, **body})


def _batch(name: str, **body: Any) -> Ask:
    return Ask(f"{CHAT}/batch", name, {"messages": [FOX, CITY], "max_tokens": 6, **body})


def _text(name: str, **body: Any) -> Ask:
    return Ask(TEXT, name, {"prompt": "The three primary colours are", "max_tokens": 4, **body})


def _respond(name: str, **body: Any) -> Ask:
    return Ask(RESPOND, name, {"input": FOX[0]["content"], "max_output_tokens": 12, **body})


def _message(name: str, **body: Any) -> Ask:
    return Ask(MESSAGE, name, {"messages": FOX, "max_tokens": 6, **body})


CORPUS: tuple[Ask, ...] = (
    _chat("plain"),
    _chat("stream", stream=True),
    _chat("stream with usage", **USAGE),
    _chat("continuous usage", stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}),
    _chat("max_completion_tokens", max_tokens=None, max_completion_tokens=5),
    _chat("n, seeded", n=2, temperature=0.9, seed=7, top_p=0.9),
    _chat("n, streamed", n=2, temperature=0.9, seed=7, **USAGE),
    _chat("logprobs", logprobs=True, top_logprobs=2, max_tokens=3),
    _chat("logprobs, streamed", logprobs=True, top_logprobs=2, max_tokens=3, stream=True),
    _chat("stop text", stop=["forest"], max_tokens=40),
    _chat("stop texts, streamed", stop=["forest", "\n"], max_tokens=40, stream=True),
    _chat("penalties", frequency_penalty=0.5, presence_penalty=0.4),
    _chat("logit_bias", logit_bias={"100": 50, "200": -100}, max_tokens=4),
    _chat("json_object", response_format={"type": "json_object"}, max_tokens=24),
    _chat("json_schema", messages=CITY, response_format=FORMAT),
    _chat("json_schema, streamed", messages=CITY, response_format=FORMAT, **USAGE),
    _chat("tools, auto", messages=CITY, tools=[TOOL]),
    _chat("tools, required", messages=CITY, tools=[TOOL], tool_choice="required", max_tokens=40),
    _chat("tools, named", messages=CITY, tools=[TOOL], tool_choice=NAMED, max_tokens=40),
    _chat("tools, named, streamed", messages=CITY, tools=[TOOL], tool_choice=NAMED, max_tokens=40, **USAGE),
    _chat("tools, called", messages=CALLED, tools=[TOOL], parallel_tool_calls=False),
    _chat("tools, none", messages=CITY, tools=[TOOL], tool_choice="none"),
    _chat("content parts", messages=[{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]),
    _chat("own system", messages=[{"role": "system", "content": "Answer in one word."}, *FOX]),
    _chat("developer", messages=[{"role": "developer", "content": "Answer in one word."}, *FOX]),
    _chat("what the SDK adds", verbosity="low", safety_identifier="s", **ADDED),
    _chat("n, whole", n=3, temperature=0.9, seed=1),
    _chat("seeded twice", seed=42, temperature=0.8),
    _chat("top_logprobs, none", logprobs=True, top_logprobs=0, max_tokens=2),
    _chat("logprobs, left out", logprobs=False, max_tokens=2),
    _chat("logprobs, n", n=2, logprobs=True, top_logprobs=1, temperature=0.5, seed=3, max_tokens=2),
    _chat("logit_bias, empty", logit_bias={}, max_tokens=2),
    _chat("stop, none", stop=[], max_tokens=4),
    _chat("response_format text", response_format={"type": "text"}),
    _chat("json_schema, strict", messages=CITY, response_format={**FORMAT, "json_schema": {**SCHEMA, "strict": True}}),
    _chat("tools, in parallel", messages=CITY, tools=[TOOL], parallel_tool_calls=True),
    _chat("tools, one at a time", messages=CITY, tools=[TOOL], tool_choice="required", parallel_tool_calls=False),
    _chat("tools, required, streamed", messages=CITY, tools=[TOOL], tool_choice="required", max_tokens=40, **USAGE),
    _chat("tools, allowed", messages=CITY, tools=[TOOL], tool_choice=ALLOWED),
    _chat("tools, custom", messages=CITY, tools=[OWN_TOOL]),
    _chat("functions", messages=CITY, **LEGACY),
    _chat("stream_options, empty", stream=True, stream_options={}),
    _chat("stream_options, no usage", stream=True, stream_options={"include_usage": False}),
    _chat("obfuscation", stream=True, stream_options={"include_obfuscation": False}),
    _chat("stream_options without a stream", stream_options={"include_usage": True}),
    _chat("reasoning_effort", reasoning_effort="low"),
    _chat("prediction", prediction=GUESS),
    _chat("modalities", modalities=["text"]),
    _chat("modalities, audio", modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
    _chat("web_search_options", web_search_options={}),
    _chat("moderation and retention", safety_identifier="s", prompt_cache_retention="24h"),
    _chat("names", messages=[{"role": "user", "name": "anna", "content": "Say hello."}]),
    _chat("a refusal in the past", messages=[*FOX, {"role": "assistant", "refusal": "No.", "content": None}, *FOX]),
    _chat("both limits", max_tokens=3, max_completion_tokens=5),
    _chat("error: n", n=0),
    _chat("error: logprobs", logprobs=True, top_logprobs=999),
    _chat("error: logit_bias", logit_bias={"x": "y"}),
    _chat("error: stop", stop=7),
    _chat("error: tools", tools="weather"),
    _chat("error: reasoning_effort", reasoning_effort="immense"),
    _chat("ids of tokens", return_token_ids=True, max_tokens=2),
    _chat("logprobs of the prompt", prompt_logprobs=1, max_tokens=2),
    _chat("error: a type", temperature="warm"),
    _chat("error: a range", top_p=7),
    _chat("error: the limit", max_tokens=10**6),
    _chat("error: the context", messages=[{"role": "user", "content": "word " * 9000}]),
    _chat("error: a role", messages=[{"role": "nobody", "content": "x"}]),
    _chat("error: a schema", response_format={"type": "json_schema"}),
    _text("plain"),
    _text("stream", stream=True),
    _text("stream with usage", **USAGE),
    _text("several prompts", prompt=["One, two,", "Red, green,"]),
    _text("several prompts, streamed", prompt=["One, two,", "Red, green,"], **USAGE),
    _text("token ids", prompt=[504, 3575, 282]),
    _text("echo", echo=True),
    _text("echo, logprobs", echo=True, logprobs=1, max_tokens=2),
    _text("echo alone", echo=True, max_tokens=0),
    _text("logprobs", logprobs=2, max_tokens=3),
    _text("n, stop, seed", n=2, stop=".", seed=3, temperature=0.8),
    _text("best_of", best_of=1),
    _text("penalties, logit_bias", frequency_penalty=0.5, presence_penalty=0.4, logit_bias={"100": 5}),
    _text("token ids, several", prompt=[[504, 3575, 282], [504, 3575]]),
    _text("n of several prompts", prompt=["One, two,", "Red, green,"], n=2, temperature=0.8, seed=2),
    _text("logprobs, streamed", logprobs=1, max_tokens=3, stream=True),
    _text("what the SDK adds", user="u", stream_options=None),
    _text("error: best_of", best_of=0, n=2),
    _text("error: suffix", suffix=" and white."),
    _text("error: the context", prompt="word " * 9000),
    _respond("plain"),
    _respond("stream", stream=True),
    _respond("instructions", instructions="Answer in one word."),
    _respond("turns", input=[{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]),
    _respond("json_schema", input="The weather in Paris", text={"format": {"type": "json_schema", **SCHEMA}}),
    _respond("tools", input=CITY[0]["content"], tools=[FLAT_TOOL]),
    _respond("tool, named", **FORCED),
    _respond("tool, named, streamed", stream=True, **FORCED),
    _respond("logprobs", include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=3),
    _respond("what the SDK adds", truncation="auto", **ADDED),
    _respond("tools, required", input=CITY[0]["content"], tools=[FLAT_TOOL], tool_choice="required"),
    _respond("tools, none", input=CITY[0]["content"], tools=[FLAT_TOOL], tool_choice="none"),
    _respond("tools, at most", tools=[FLAT_TOOL], max_tool_calls=1, parallel_tool_calls=False),
    _respond("reasoning", reasoning={"effort": "low"}),
    _respond("text, plain", text={"format": {"type": "text"}, "verbosity": "low"}),
    _respond("sampling", top_p=0.9, presence_penalty=0.3),
    _respond("stream_options", stream=True, stream_options={"include_obfuscation": False}),
    _respond("error: the context", input="word " * 9000),
    _respond("error: the limit", max_output_tokens=10**6),
    _respond("error: a type", temperature="warm"),
    _respond("error: kept state", previous_response_id="resp_1"),
    _respond("error: background", background=True),
    _respond("error: a tool that the engine runs", tools=[{"type": "web_search"}]),
    _message("plain"),
    _message("stream", stream=True),
    _message("system", system="Answer in one word."),
    _message("blocks", messages=[{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]),
    _message("stop_sequences", stop_sequences=["forest"], max_tokens=40),
    _message("tools", messages=CITY, tools=[ANTHROPIC_TOOL]),
    _message("tool, forced, streamed", messages=CITY, max_tokens=40, stream=True, **ANTHROPIC_FORCED),
    _message("what the SDK adds", metadata={"user_id": "u"}, service_tier="auto", top_k=5, top_p=0.9),
    _message("tools, any", messages=CITY, tools=[ANTHROPIC_TOOL], tool_choice={"type": "any"}, max_tokens=40),
    _message("tools, auto", tools=[ANTHROPIC_TOOL], tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
    _message("tools, none", tools=[ANTHROPIC_TOOL], tool_choice={"type": "none"}),
    _message("thinking, off", thinking={"type": "disabled"}),
    _message("error: the context", messages=[{"role": "user", "content": "word " * 9000}]),
    _message("error: the limit", max_tokens=10**6),
    _message("error: a range", temperature=-3),
    _message("error: a role", messages=[{"role": "tool", "content": "x"}]),
    _message("error: no limit", max_tokens=None),
    Ask("/v1/embeddings", "error: a model that talks", {"input": "x", "encoding_format": "float", "dimensions": 8}),
    _batch("plain"),
    _batch("system prompts", messages=[FOX, [{"role": "system", "content": "Answer in one word."}, *CITY]]),
    _batch("sampled", temperature=0.9, seed=7, top_p=0.9, stop=["forest"], logprobs=True, top_logprobs=1),
    _batch("json_schema", messages=[CITY, CITY], response_format=FORMAT),
    _batch("n, one", n=1),
    _batch("error: n", n=2),
    _batch("error: tools", tools=[TOOL]),
    _batch("error: stream", stream=True),
    _batch("error: one conversation", messages=FOX),
    _batch("error: a conversation without turns", messages=[FOX, []]),
    Ask("/v1/rerank", "error: a model that talks", {"query": "x", "documents": ["a"]}),
)  # fmt: skip

# Random or of the moment: only the shape of such a value is compared.
_MOMENTARY = re.compile(r"^(id|created|created_at|item_id|tool_use_id|call_id|signature)$")


def events_of(text: str) -> list[Any]:
    """The events of a stream: name and data, or the bare word where the data is no JSON."""
    events = []
    for block in re.split(r"\r?\n\r?\n", text):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        fields = {name: value for name, _, value in lines if name}
        data = fields.get("data")
        if data is not None:
            parsed = json.loads(data) if data.startswith("{") else data
            events.append({"event": fields["event"], "data": parsed} if "event" in fields else parsed)
    return events


def in_order(events: list[Any]) -> list[Any]:
    """Choices take turns as they please: each one's events together, what is about all of them last."""

    def choice(event: Any) -> int:
        choices = event.get("choices") if isinstance(event, dict) else None
        return int(choices[0]["index"]) if choices else len(events)

    return sorted(events, key=choice)


def differences(direct: Any, through: Any, place: str = "") -> set[tuple[str, str]]:
    """(place, what happened there), without indices; numbers may differ in the noise, nulls may be left out."""
    if isinstance(direct, dict) and isinstance(through, dict):
        gone = {key for key in direct.keys() - through.keys() if direct[key] is not None}
        found = {(f"{place}.{key}".lstrip("."), "left out") for key in gone}
        found |= {(f"{place}.{key}".lstrip("."), "added") for key in through.keys() - direct.keys()}
        for key in direct.keys() & through.keys():
            before, after = (_lasting(key, said[key]) for said in (direct, through))
            found |= differences(before, after, f"{place}.{key}".lstrip("."))
        return found
    if isinstance(direct, list) and isinstance(through, list) and len(direct) == len(through):
        pairs = zip(direct, through, strict=True)
        return {row for before, after in pairs for row in differences(before, after, f"{place}[]")}
    return set() if _same(direct, through) else {(place, "changed")}


def _lasting(key: str, value: Any) -> Any:
    """A value without what is of the moment."""
    return re.sub(r"[0-9a-f-]{6,}", "*", str(value)) if _MOMENTARY.match(key) and value is not None else value


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, float) and isinstance(after, float | int):
        return abs(before - after) < 0.05
    return bool(before == after)


def rows(markdown: str) -> set[tuple[str, str, str]]:
    """The table of differences: route, place, what happens; each row must say why."""
    cells: Iterable[list[str]] = (
        [cell.strip().strip("`") for cell in line.strip("|\n").split("|")]
        for line in markdown.splitlines()
        if line.startswith("| `")
    )
    found = set()
    for route, place, what, why in cells:
        assert why, f"no reason for {route} {place}"
        found.add((route, place, what))
    return found

"""What structured output and tools must do on the demo, for the field's clients: imported by the tier with real vLLM.

A grammar, not the model, makes each of these answers end: nothing here depends on what the model would say.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Literal

import anthropic
import openai
import pytest
from pydantic import BaseModel, Field

CLIENTS = Path(__file__).parent / "clients"
TURNS = [{"role": "user", "content": "Acme leases an office in Paris to Borealis. Return the key fields."}]
Short = Annotated[str, Field(max_length=12)]


class Place(BaseModel):
    city: Short
    capital: bool


class Contract(BaseModel):
    kind: Literal["lease", "sale"]
    office: Place
    parties: Annotated[list[Short], Field(max_length=3)]
    law: Place | None


SCHEMA = openai.pydantic_function_tool(Contract)["function"]["parameters"]


def a_tool(**more: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "keep", "parameters": SCHEMA, **more}}


NAMED = {"type": "function", "function": {"name": "keep"}}


def is_compact(text: str) -> bool:
    """No whitespace between the tokens of JSON, which may be cut; the engine allows one blank after a comma."""
    between = re.sub(r'"(?:[^"\\]|\\.)*(?:"|$)', "", text)
    return text.startswith(("{", "[")) and not re.search(r"\s\s|[\t\n\r]", between)


def test_openai_parses_a_completion_and_a_response(node, client):
    """Both of its `parse` methods, as they come."""
    completion = client.chat.completions.parse(
        model=node.endpoint, messages=TURNS, response_format=Contract, temperature=0
    )
    response = client.responses.parse(model=node.endpoint, input=TURNS, text_format=Contract, temperature=0)
    assert isinstance(completion.choices[0].message.parsed, Contract)
    assert isinstance(response.output_parsed, Contract)
    assert is_compact(completion.choices[0].message.content)
    assert is_compact(response.output_text)


def test_openai_parses_streams(node, client):
    """The events of both routes end in a parsed answer."""
    ask = {"model": node.endpoint, "temperature": 0}
    with client.chat.completions.stream(**ask, messages=TURNS, response_format=Contract) as stream:
        completion = stream.get_final_completion()
    with client.responses.stream(**ask, input=TURNS, text_format=Contract) as events:
        response = events.get_final_response()
    assert isinstance(completion.choices[0].message.parsed, Contract)
    assert isinstance(response.output_parsed, Contract)


def test_a_json_object_is_not_all_whitespace(node, client):
    """Without a schema nothing makes so small a model end; what it writes is the beginning of compact JSON."""
    answer = client.chat.completions.create(
        model=node.endpoint,
        messages=TURNS,
        response_format={"type": "json_object"},
        max_tokens=24,
        temperature=0,
    )
    assert is_compact(answer.choices[0].message.content)


@pytest.mark.parametrize("strict", [True, False, None])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_forced_tool_is_called_with_its_arguments(node, client, choice, strict):
    """By its schema, nested objects and all, also where the caller does not set `strict`; and so streamed."""
    tools = [a_tool() if strict is None else a_tool(strict=strict)]
    ask = {"model": node.endpoint, "messages": TURNS, "tools": tools, "tool_choice": choice, "temperature": 0}
    ask["parallel_tool_calls"] = False
    (call,) = client.chat.completions.create(**ask).choices[0].message.tool_calls
    assert call.function.name == "keep"
    assert Contract.model_validate_json(call.function.arguments)
    assert is_compact(call.function.arguments)
    chunks = client.chat.completions.create(**ask, stream=True)
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert {part.index for part in parts} == {0}
    assert "".join(part.function.name or "" for part in parts) == "keep"
    assert Contract.model_validate_json("".join(part.function.arguments or "" for part in parts))


def test_an_agents_second_turn_is_answered(node, client):
    """A conversation with the call of a tool and its result; the turn of the call has no text."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "keep", "arguments": '{"kind": "lease"}'},
    }
    turns = [
        *TURNS,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "kept"},
    ]
    for choice in ("auto", "none"):
        ask = {"tools": [a_tool()], "tool_choice": choice, "max_tokens": 4, "temperature": 0}
        answer = client.chat.completions.create(model=node.endpoint, messages=turns, **ask)
        assert answer.usage.completion_tokens > 0


def test_a_response_calls_its_tool(node, client):
    """The same on OpenAI's newer route."""
    tool = {"type": "function", "name": "keep", "parameters": SCHEMA, "strict": True}
    response = client.responses.create(
        model=node.endpoint,
        input=TURNS,
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
    )
    (call,) = (item for item in response.output if item.type == "function_call")
    assert Contract.model_validate_json(call.arguments)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "keep"}], ids=["any", "tool"])
def test_anthropic_gets_the_use_of_a_tool(node, choice):
    """Arguments are an object, as its wire requires."""
    with anthropic.Anthropic(base_url=node.root, api_key=node.key, max_retries=0) as claude:
        message = claude.messages.create(
            model=node.endpoint,
            messages=TURNS,
            max_tokens=300,
            tools=[{"name": "keep", "input_schema": SCHEMA}],
            tool_choice={**choice, "disable_parallel_tool_use": True},
            extra_body={"temperature": 0},
        )
    (use,) = (part for part in message.content if part.type == "tool_use")
    assert Contract.model_validate(use.input)


def test_a_structured_answer_that_is_cut_says_so(node, client):
    """`max_tokens` midway is the client's own typed error, not JSON that does not parse."""
    ask = {"model": node.endpoint, "max_tokens": 4, "temperature": 0}
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**ask, messages=TURNS, response_format=Contract)
    cut = client.responses.create(
        model=node.endpoint,
        input=TURNS,
        max_output_tokens=4,
        temperature=0,
        text={"format": {"type": "json_schema", "name": "contract", "schema": SCHEMA, "strict": True}},
    )
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_schema_that_no_grammar_can_hold_is_the_callers_error(node, client):
    """Refused at once, with the field; an answer that breaks its schema would be worse."""
    number = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 7}}, "required": ["n"]}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=node.endpoint,
            messages=TURNS,
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": number}},
        )


FRAMEWORKS = [
    "langchain_schema",
    "langchain_function",
    "langchain_tool",
    "pydantic_ai_schema",
    "pydantic_ai_tool",
    "openai_agents_schema",
    "openai_agents_tool",
    "instructor_schema",
    "instructor_tool",
    "llama_index_schema",
    "llama_index_tool",
]


@pytest.fixture(scope="module")
def frameworks(node, frameworks_python):
    """What each framework got, all of them in one program."""
    argv = [frameworks_python, "frameworks.py", node.base_url, node.key, node.endpoint]
    done = subprocess.run(argv, cwd=CLIENTS, capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_gets_its_object_at_the_first_call(frameworks, name):
    """Unmodified, with no option for this server."""
    assert frameworks[name] == "ok"


def test_every_framework_was_tried(frameworks):
    """A call added there is asserted here."""
    assert sorted(frameworks) == sorted(FRAMEWORKS)


def test_the_ai_sdk_gets_its_objects_at_the_first_call(node):
    """Vercel's, in Node: an object, a streamed one, the call of a tool."""
    if shutil.which("node") is None or not (CLIENTS / "node_modules" / "ai").is_dir():
        pytest.skip("Node and the AI SDK are not installed (make tools)")
    argv = ["node", "agents.mjs", node.base_url, node.key, node.endpoint]
    done = subprocess.run(argv, cwd=CLIENTS, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert sorted(got) == ["schema", "streamed", "tool"]
    for value in got.values():
        assert (value["country"] in ("France", "Norway"), type(value["capital"])) == (True, bool)

"""Reading a caller's body and building the engine's."""

import json

import pytest

from pareta_agent.contract.api_errors import Problem
from pareta_agent.gateway.api.request_body import InferenceRequest, read, rebuild, too_deep
from pareta_agent.gateway.api.routes import (
    BATCH,
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    POOLING,
    RERANK,
    RESPONSES,
    SCORE,
)

TURNS = [{"role": "user", "content": "hi"}]


def ask(route=CHAT, **fields) -> InferenceRequest:
    base = {"model": "ep_x", route.prompt: TURNS if route in (CHAT, MESSAGES) else "hi"}
    base |= {"max_tokens": 9} if route is MESSAGES else {}
    found = read(route, json.dumps({**base, **fields}).encode())
    assert isinstance(found, InferenceRequest), found
    return found


def built(route=CHAT, system_prompt=None, **fields):
    return json.loads(rebuild(route, ask(route, **fields), system_prompt))


@pytest.mark.parametrize(
    "field",
    [
        "priority",
        "request_id",
        "session_id",
        "kv_transfer_params",
        "ec_transfer_params",
        "cache_salt",
        "stream_interval",
        "echo_of_the_future",
    ],
)
def test_a_field_that_is_not_allowed_never_reaches_the_engine(field):
    """The list is of what may pass, so a new engine field stays out by itself."""
    assert field not in built(CHAT, **{field: 1})
    assert field not in built(COMPLETIONS, **{field: 1})


@pytest.mark.parametrize(
    ("route", "fields"),
    [(route, route.refused) for route in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS)],
)
def test_what_would_change_the_answer_is_refused_and_never_dropped(route, fields):
    """Each with why; where it says nothing it is left out."""
    assert not route.fields & fields.keys()
    base = {"model": "m", route.prompt: TURNS if route in (CHAT, MESSAGES) else "hi", "max_tokens": 5}
    base = base if "max_tokens" in route.fields else {"model": "m", route.prompt: "hi"}
    for field, why in fields.items():
        found = read(route, json.dumps({**base, field: "x"}).encode())
        assert isinstance(found, Problem)
        assert (found.code, found.param) == ("invalid_value", field)
        assert why in found.text
        assert isinstance(read(route, json.dumps({**base, field: None}).encode()), InferenceRequest)


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS])
def test_best_of_is_one(route):
    """More would be the best of several answers, which nobody makes here."""
    assert ask(route, best_of=1).n == 1
    refused = read(route, json.dumps({"model": "m", route.prompt: TURNS, "best_of": 3}).encode())
    assert (refused.param, refused.text) == ("best_of", "'best_of' must be 1; you sent 3.")


@pytest.mark.parametrize(
    ("fields", "greedy", "expected"),
    [
        ({"n": 2}, True, (1.0, 1)),
        ({"n": 2, "temperature": 0}, False, (1.0, 1)),
        ({"n": 2, "temperature": 0.0, "top_k": 5}, True, (1.0, 1)),
        ({"n": 2, "temperature": 0.7}, True, (0.7, None)),
        ({"n": 2}, False, (None, None)),
        ({"n": 1}, True, (None, None)),
        ({"n": 1, "temperature": 0}, False, (0, None)),
        ({"n": 2, "temperature": "warm"}, True, ("warm", None)),
    ],
)
@pytest.mark.parametrize("route", [CHAT, COMPLETIONS])
def test_several_greedy_answers_are_asked_for_in_a_way_that_the_engine_takes(route, fields, greedy, expected):
    """The likeliest token alone is what temperature 0 means, and not refused for n > 1."""
    body = json.loads(rebuild(route, ask(route, **fields), None, greedy=greedy))
    assert (body.get("temperature"), body.get("top_k")) == expected
    assert body["n"] == fields["n"]


@pytest.mark.parametrize(("route", "most"), [(COMPLETIONS, 1024), (EMBEDDINGS, 2048)])
def test_no_more_prompts_than_the_engine_takes(route, most):
    """The limit that is said is the one that holds."""
    assert ask(route, **{route.prompt: ["x"] * most}).prompts == most
    refused = read(route, json.dumps({"model": "m", route.prompt: ["x"] * (most + 1)}).encode())
    assert (refused.code, refused.param) == ("invalid_value", route.prompt)
    assert refused.text == f"'{route.prompt}' may hold at most {most:,} prompts; you sent {most + 1:,}."


@pytest.mark.parametrize(
    ("schema", "loops"),
    [
        ({"$ref": "#"}, True),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, True),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, True),
        (
            {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"allOf": [{"oneOf": [{"$ref": "#/$defs/a~1b"}]}]}}},
            True,
        ),
        ({"properties": {"a": {"$ref": "#"}}}, False),
        ({"items": {"$ref": "#"}}, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}}, False),
        ({"$ref": "#/nowhere"}, False),
        ({"$ref": "https://example.com/x"}, False),
        ({"properties": {"$ref": {"type": "string"}}}, False),
        ({"anyOf": [{"$ref": "#/anyOf/1"}, {"type": "null"}]}, False),
    ],
)
def test_a_schema_that_leads_to_itself_is_refused(schema, loops):
    """In a stream too, which would have begun by the time that the engine fails on it."""
    found = read(
        CHAT,
        json.dumps(
            {
                "model": "m",
                "messages": TURNS,
                "stream": True,
                "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
            }
        ).encode(),
    )
    assert isinstance(found, Problem) is loops
    if loops:
        assert (found.code, found.param) == ("invalid_value", "response_format")
        assert "leads to itself" in found.text


def test_what_the_openai_client_can_send_passes_unchanged():
    """Sampling, tools, formats and logprobs keep their values."""
    sent = {
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "seed": 7,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1.0},
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
        "user": "u",
    }
    assert built(**sent) == {"model": "ep_x", "messages": TURNS, **sent}


def test_a_stream_always_asks_for_usage_and_nothing_else():
    """Whatever options the caller gave."""
    body = built(stream=True, stream_options={"continuous_usage_stats": True})
    assert body["stream_options"] == {"include_usage": True}
    asked = {"model": "ep_x", "messages": TURNS, "stream_options": {"include_usage": True}}
    refused = read(CHAT, json.dumps(asked).encode())
    assert (refused.code, refused.param) == ("invalid_value", "stream_options")


@pytest.mark.parametrize(
    ("options", "wants"),
    [(None, False), ({}, False), ({"include_usage": False}, False), ({"include_usage": True}, True)],
)
def test_whether_the_caller_wants_usage_is_remembered(options, wants):
    """Only a plain true counts."""
    assert ask(stream=True, stream_options=options).wants_usage is wants


@pytest.mark.parametrize(
    ("messages", "inserted"),
    [
        (TURNS, True),
        ([{"role": "system", "content": "mine"}, *TURNS], False),
        ([{"role": "developer", "content": "mine"}, *TURNS], False),
    ],
)
def test_the_tasks_system_prompt_is_used_when_the_caller_has_none(messages, inserted):
    """First among the messages, or not at all."""
    body = built(CHAT, "task's", messages=messages)
    system = [{"role": "system", "content": "task's"}] if inserted else []
    assert body["messages"] == [*system, *messages]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", 1),
        (["a", "b"], 2),
        (["1", "2"], 2),
        ([1, 2, 3], 1),
        ([1.0, 2.0], 1),
        (["1", 2], 1),
        ([[1], [2.0], [3]], 3),
        ([], 1),
    ],
)
def test_prompts_of_a_batch_are_counted(prompt, prompts):
    """A list of texts or of token lists is a batch; a list of tokens is one prompt, in all spellings of engines."""
    found = ask(COMPLETIONS, prompt=prompt, n=2)
    assert (found.prompts, found.choices) == (prompts, prompts * 2)


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 6}, 6),
        (CHAT, {"max_tokens": "5"}, None),
        (CHAT, {"max_tokens": -5}, None),
        (COMPLETIONS, {}, 16),
    ],
)
def test_the_limit_of_an_answer_is_read(route, fields, expected):
    """None where there is no usable one; the older route has a default."""
    assert ask(route, **fields).max_tokens == expected


def test_embeddings_do_not_stream():
    """`stream` means nothing there and does not reach the engine."""
    body = built(EMBEDDINGS, stream=True)
    assert "stream" not in body
    assert ask(EMBEDDINGS, stream=True).stream is False


@pytest.mark.parametrize(("depth", "refused"), [(1, False), (64, False), (65, True), (500, True)])
def test_nesting_has_a_limit(depth, refused):
    """64 levels pass, one more does not; brackets in strings do not nest."""
    value = "[" * 1000
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    assert too_deep(value) == refused


def test_many_shallow_brackets_are_not_deep():
    """A long list of objects is an ordinary body."""
    assert isinstance(
        read(CHAT, json.dumps({"model": "m", "messages": TURNS * 500}).encode()), InferenceRequest
    )


def test_a_key_said_twice_is_built_once():
    """What was checked is what is sent: the engine cannot read the body otherwise."""
    raw = b'{"model": "ep_x", "model": "ep_y", "messages": [{"role": "user", "content": "hi"}]}'
    found = read(CHAT, raw)
    assert isinstance(found, InferenceRequest)
    assert rebuild(CHAT, found, None).count(b'"model"') == 1


@pytest.mark.parametrize("n", [0, -1, 129, 1.5, "2", True, [1]])
def test_a_foolish_n_is_refused(n):
    """Choices are counted, so their number must be a number."""
    raw = json.dumps({"model": "m", "messages": TURNS, "n": n}).encode()
    text = f"'n' must be an integer from 1 to 128; you sent {json.dumps(n, separators=(',', ':'))}."
    assert read(CHAT, raw) == Problem("invalid_value", text, "n")


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (SCORE, {"text_1": "a"}, ("missing_field", "text_2")),
        (RERANK, {"query": "a"}, ("missing_field", "documents")),
        (RERANK, {"documents": ["a"]}, ("missing_field", "query")),
        (EMBEDDINGS, {"input": "a", "encoding_format": "bytes"}, ("invalid_value", "encoding_format")),
        (
            RERANK,
            {"query": "a", "documents": [{"content": [{"image_url": {"url": "http://10.0.0.1/x"}}]}]},
            ("remote_media", "documents"),
        ),
    ],
)
def test_texts_that_cannot_be_judged_are_refused(route, fields, expected):
    """Missing ones by name, remote media, and encodings whose usage could not be read."""
    problem = read(route, json.dumps({"model": "m", **fields}).encode())
    assert isinstance(problem, Problem)
    assert (problem.code, problem.param) == expected


@pytest.mark.parametrize(
    ("route", "fields", "prompts"),
    [
        (SCORE, {"text_1": "a", "text_2": ["b", "c", "d"]}, 6),
        (RERANK, {"query": "a", "documents": ["b", "c"], "top_n": 1}, 4),
        (POOLING, {"input": "a"}, 1),
    ],
)
def test_documents_are_the_prompts_of_a_route_that_generates_nothing(route, fields, prompts):
    """Their number bounds the usage, twice where each is read beside another; the body is as it came, less
    what is not allowed."""
    found = read(route, json.dumps({"model": "m", "priority": 1, **fields}).encode())
    assert isinstance(found, InferenceRequest)
    assert (found.prompts, found.generates) == (prompts, False)
    assert json.loads(rebuild(route, found, None)) == {"model": "m", **fields}


@pytest.mark.parametrize(
    ("route", "fields", "code", "param"),
    [
        (RESPONSES, {"input": 7}, "invalid_type", "input"),
        (RESPONSES, {"input": []}, "invalid_type", "input"),
        (RESPONSES, {"input": "a", "background": True}, "invalid_value", "background"),
        (
            RESPONSES,
            {"input": "a", "previous_response_id": "resp_1"},
            "invalid_value",
            "previous_response_id",
        ),
        (RESPONSES, {"input": "a", "conversation": "conv_1"}, "invalid_value", "conversation"),
        (RESPONSES, {"input": "a", "prompt": {"id": "p"}}, "invalid_value", "prompt"),
        (
            RESPONSES,
            {"input": "a", "tools": [{"type": "mcp", "server_url": "http://x"}]},
            "invalid_value",
            "tools",
        ),
        (RESPONSES, {"input": "a", "tools": [{"type": "web_search"}]}, "invalid_value", "tools"),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y"}]}]},
            "remote_media",
            "input",
        ),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "output": [{"file_url": "http://x/y"}]}]},
            "remote_media",
            "input",
        ),
        (BATCH, {"messages": TURNS}, "invalid_type", "messages"),
        (BATCH, {"messages": [TURNS, []]}, "invalid_type", "messages"),
        (BATCH, {"messages": [TURNS], "n": 2}, "invalid_value", "n"),
        (BATCH, {"messages": [TURNS], "tools": [{"type": "function"}]}, "invalid_value", "tools"),
        (BATCH, {"messages": [TURNS], "stream": True}, "invalid_value", "stream"),
        (
            BATCH,
            {"messages": [TURNS, [{"role": "user", "content": [{"image_url": {"url": "http://x/y"}}]}]]},
            "remote_media",
            "messages",
        ),
        (BATCH, {"messages": [TURNS] * 2049}, "invalid_value", "messages"),
        (COMPLETIONS, {"prompt": ["a"] * 2049}, "invalid_value", "prompt"),
        (EMBEDDINGS, {"input": ["a"] * 2049}, "invalid_value", "input"),
        (MESSAGES, {"messages": TURNS}, "missing_field", "max_tokens"),
        (MESSAGES, {"messages": TURNS, "max_tokens": "9"}, "invalid_value", "max_tokens"),
        (MESSAGES, {"messages": "hi", "max_tokens": 9}, "invalid_type", "messages"),
        (
            MESSAGES,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "content": [
                                    {"type": "image", "source": {"type": "url", "url": "http://x/y"}}
                                ],
                            }
                        ],
                    }
                ],
                "max_tokens": 9,
            },
            "remote_media",
            "messages",
        ),
    ],
)
def test_what_a_conversation_may_not_hold_is_refused(route, fields, code, param):
    """State kept for a caller, tools that the engine would run, media that it would fetch."""
    problem = read(route, json.dumps({"model": "m", **fields}).encode())
    assert isinstance(problem, Problem)
    assert (problem.code, problem.param) == (code, param)


def test_a_response_is_never_stored():
    """Whatever its caller says; refused fields that say nothing are left out."""
    body = built(
        RESPONSES, store=True, background=False, previous_response_id=None, stream=True, max_output_tokens=5
    )
    assert body == {"model": "ep_x", "input": "hi", "store": False, "stream": True, "max_output_tokens": 5}
    assert ask(RESPONSES, max_output_tokens=5, n=9).choices == 1
    assert ask(RESPONSES, max_output_tokens=5).max_tokens == 5


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (RESPONSES, {}, {"input": [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]}),
        (RESPONSES, {"input": TURNS}, {"input": [{"role": "system", "content": "S"}, *TURNS]}),
        (RESPONSES, {"instructions": "mine"}, {"input": "hi", "instructions": "mine"}),
        (
            RESPONSES,
            {"input": [{"role": "developer", "content": "mine"}]},
            {"input": [{"role": "developer", "content": "mine"}]},
        ),
        (
            BATCH,
            {"messages": [TURNS, [{"role": "developer", "content": "mine"}, *TURNS]]},
            {
                "messages": [
                    [{"role": "system", "content": "S"}, *TURNS],
                    [{"role": "developer", "content": "mine"}, *TURNS],
                ]
            },
        ),
        (MESSAGES, {}, {"messages": TURNS, "system": "S"}),
        (MESSAGES, {"system": "mine"}, {"messages": TURNS, "system": "mine"}),
        (
            MESSAGES,
            {"system": [{"type": "text", "text": "mine"}]},
            {"system": [{"type": "text", "text": "mine"}]},
        ),
    ],
)
def test_the_tasks_system_prompt_has_its_place_on_every_route(route, fields, expected):
    """Where no answer repeats it, and only for a caller who brings none."""
    body = built(route, "S", **fields)
    assert {key: body.get(key) for key in expected} == expected
    assert ("system" in body) == ("system" in expected)


def test_the_cache_salt_is_ours():
    """A caller's own never passes; ours is what the engine gets."""
    assert json.loads(rebuild(CHAT, ask(cache_salt="theirs"), None, "ours"))["cache_salt"] == "ours"


def test_an_engine_that_is_shared_hears_its_own_name():
    """What the caller calls it is not what a base with several endpoints was started as."""
    assert json.loads(rebuild(CHAT, ask(), None, served_as="base-1"))["model"] == "base-1"


@pytest.mark.parametrize(
    ("content", "media"),
    [
        ("no data: here", False),
        ([{"type": "text", "text": "data"}], False),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], True),
        ([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}], True),
    ],
)
def test_media_in_a_prompt_is_known(content, media):
    """Its tokens are as many as they like, whatever its bytes: credit is held for the whole context."""
    said = json.dumps({"model": "ep_x", "messages": [{"role": "user", "content": content}]})
    for body in (said, said.replace("data:image", "\\u0064ata:image")):
        found = read(CHAT, body.encode())
        assert isinstance(found, InferenceRequest)
        assert found.media is media

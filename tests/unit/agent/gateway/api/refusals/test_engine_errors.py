"""An engine's refusal, told in our words."""

import json
import re
from pathlib import Path

import pytest

from pareta_agent.gateway.api.refusals.engine_errors import precedes_work, problem_in, problem_of
from pareta_agent.gateway.api.request_body import InferenceRequest, read
from pareta_agent.gateway.api.routes import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    INFERENCE,
    MESSAGES,
    RESPONSES,
    TRANSCRIPTIONS,
)

RECORDED = Path(__file__).parents[5] / "data" / "engine" / "refusals-0.32.0.jsonl"
ROWS = [json.loads(line) for line in RECORDED.read_text().splitlines()]
OF_THE_ENGINE = re.compile(
    r"--|VLLM|parameter=|value=|'loc'|pydantic|validation error|\b(?:None|True|False)\b|https?:|Grammar error"
)


def body(message, param=None, code=400) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": "BadRequestError", "param": param, "code": code}}
    ).encode()


LONG = "This model's maximum context length is 2048 tokens. However, "


@pytest.mark.parametrize(
    ("status", "answer", "code", "param"),
    [
        (
            400,
            body(LONG + "your prompt contains 3000 input tokens, which"),
            "context_length_exceeded",
            "messages",
        ),
        (400, body("max_tokens must be at least 1", "max_tokens"), "invalid_value", "max_tokens"),
        (400, body("bad", "messages[0].content"), "invalid_value", "messages"),
        (400, body("[{'type': 'x', 'loc': ('body', 'tools', 0)}]", "body"), "invalid_value", "tools"),
        (
            400,
            body(
                "1 validation error:\n  {'type': 'float_parsing', 'loc': 'body.temperature', 'msg': 'x'}",
                "body",
            ),
            "invalid_value",
            "temperature",
        ),
        (400, body("see /weights/secret.py line 3", "chat_template"), "invalid_request", None),
        (400, b"not json", "invalid_request", None),
        (422, b'{"detail": [{"loc": ["body"]}]}', "invalid_request", None),
        (404, body("The model `/weights/x` does not exist.", code=404), "engine_failed", None),
        (404, b'{"detail":"Not Found"}', "route_unsupported", None),
        (405, b'{"detail":"Method Not Allowed"}', "route_unsupported", None),
        (429, b"", "endpoint_busy", None),
        (503, body("queue is full"), "endpoint_busy", None),
        (503, body("engine is dead"), "engine_unreachable", None),
        (500, body("/weights/secret"), "engine_failed", None),
        (302, b"", "engine_failed", None),
    ],
)
def test_each_refusal_has_its_place_in_the_catalogue(status, answer, code, param):
    """Status and known names decide; the engine's words are not in the answer."""
    problem = problem_of(status, answer, CHAT)
    assert (problem.code, problem.param) == (code, param)
    assert "weights" not in problem.text


def test_an_answer_longer_than_the_context_says_the_numbers():
    """What was asked for and what is possible."""
    said = "max_completion_tokens=9000 cannot be greater than max_model_len=2048. Please request fewer output tokens."
    problem = problem_of(400, body(said, "max_completion_tokens"), CHAT)
    assert (problem.code, problem.param) == ("invalid_value", "max_completion_tokens")
    assert "9000" in problem.text
    assert "2048" in problem.text


@pytest.mark.parametrize(
    "message",
    [
        LONG + "your prompt contains at least 2049 input tokens, which exceeds this limit",
        LONG + "your prompt contains 9000 characters (more than 8192 characters, which is the upper bound",
        "The engine prompt length 3000 exceeds the max_model_len 2048. Please reduce prompt.",
        "The decoder prompt (length 3000) is longer than the maximum model length of 2048. Make sure",
        (
            "The decoder prompt (length 2048) plus the number of requested output tokens (at least 1) is longer "
            "than the maximum model length of 2048. Make sure"
        ),
        "Input length (3000) exceeds model's maximum context length (2048).",
    ],
)
def test_a_prompt_that_is_too_long_reads_as_openais_and_as_anthropics(message):
    """Whichever check of the engine found it."""
    problem = problem_of(400, body(message), CHAT)
    assert (problem.status, problem.code) == (400, "context_length_exceeded")
    assert problem.text.startswith(
        "This model's maximum context length is 2048 tokens. However, your messages resulted in "
    )
    assert re.fullmatch(
        r"prompt is too long: (\d+|more than 2048) tokens > 2048 maximum",
        problem_of(400, body(message), MESSAGES).text,
    )


def test_the_numbers_of_a_context_overflow_are_told():
    """Limit, prompt and answer, as far as the engine named them."""
    answer = body(
        LONG + "you requested 500 output tokens and your prompt contains at least 1600 input tokens"
    )
    text = problem_of(400, answer, CHAT).text
    assert all(number in text for number in ("2048", "500", "1600"))


@pytest.mark.parametrize(
    ("route", "said", "param", "code", "field"),
    [
        (
            RESPONSES,
            "max_tokens must be at least 1, got -1.",
            "max_tokens",
            "invalid_value",
            "max_output_tokens",
        ),
        (
            RESPONSES,
            "The engine prompt length 3000 exceeds the max_model_len 2048. Please reduce prompt.",
            "input",
            "context_length_exceeded",
            "input",
        ),
        (
            MESSAGES,
            "max_completion_tokens=9000 cannot be greater than max_model_len=2048. (parameter=max_completion_tokens,",
            None,
            "invalid_value",
            "max_tokens",
        ),
        (
            MESSAGES,
            "temperature must be non-negative. (parameter=temperature, value=-3.0)",
            None,
            "invalid_value",
            "temperature",
        ),
        (
            MESSAGES,
            LONG + "your prompt contains at least 2049 input tokens",
            None,
            "context_length_exceeded",
            "messages",
        ),
    ],
)
def test_a_limit_is_told_by_the_routes_own_name(route, said, param, code, field):
    """Though the engine serves a route by another one and speaks of that."""
    problem = problem_of(400, body(said, param), route)
    assert (problem.code, problem.param) == (code, field)


def test_a_handler_that_the_model_has_not_is_no_failure():
    """501 is how the engine says that its model does not answer such a request."""
    assert (
        problem_of(501, body("The model does not support Responses API"), RESPONSES).code
        == "route_unsupported"
    )


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['path']}-{number}" for number, row in enumerate(ROWS)])
def test_what_vllm_refused_names_the_field_what_was_sent_and_what_is_allowed(row):
    """Refusals of vLLM 0.32.0 as they were recorded: 400 in our words, the value repeated where it is short."""
    route = INFERENCE[b"POST", row["path"].encode()]
    asked = read(route, json.dumps({"model": "ep", **row["body"]}).encode())
    fields = asked.fields if isinstance(asked, InferenceRequest) else row["body"]
    found = problem_of(row["status"], json.dumps(row["answer"]).encode(), route, fields)
    problem = found if isinstance(asked, InferenceRequest) else asked
    assert problem.status == 400
    assert problem.param is not None
    assert problem.param in row["body"]
    assert f"'{problem.param}'" in problem.text or problem.code == "context_length_exceeded"
    assert not OF_THE_ENGINE.search(problem.text.partition("you sent")[0])
    sent = json.dumps(fields[problem.param], separators=(",", ":"))
    if found is problem and problem.code == "invalid_value" and len(sent) < 40 and "e+" not in sent:
        assert problem.text.endswith(f"; you sent {sent}.")


@pytest.mark.parametrize(
    ("route", "fields", "message", "param", "allowed"),
    [
        (
            CHAT,
            {"logit_bias": {"9": 1}},
            "token_id(s) [9] in logit_bias contain out-of-vocab token ids. Vocabulary size: 5",
            "logit_bias",
            "from 0 to 4",
        ),
        (
            CHAT,
            {"min_tokens": 9, "max_tokens": 3},
            "min_tokens must be less than or equal to max_tokens=3, got 9.",
            "min_tokens",
            "from 0 to 3",
        ),
        (
            CHAT,
            {"top_logprobs": 9},
            "Requested sample logprobs of 9, which is greater than max allowed: 5",
            "top_logprobs",
            "from 0 to 5",
        ),
        (
            COMPLETIONS,
            {"logprobs": 9},
            "Requested sample logprobs of 9, which is greater than max allowed: 5",
            "logprobs",
            "from 0 to 5",
        ),
        (
            MESSAGES,
            {"max_tokens": 9},
            "max_completion_tokens=9 cannot be greater than max_model_len=8.",
            "max_tokens",
            "from 1 to 8",
        ),
        (
            EMBEDDINGS,
            {"truncate_prompt_tokens": 9},
            "truncate_prompt_tokens=9 cannot be greater than max_model_len = 8.",
            "truncate_prompt_tokens",
            "from 1 to 8",
        ),
    ],
)
def test_the_limits_of_the_endpoint_are_the_engines(route, fields, message, param, allowed):
    """Numbers that only the engine knows come from its refusal."""
    problem = problem_of(400, body(message), route, fields)
    assert (problem.code, problem.param) == ("invalid_value", param)
    assert allowed in problem.text
    assert f"you sent {json.dumps(fields[param], separators=(',', ':'))}." in problem.text


def test_more_images_than_allowed_are_counted():
    """By kind: what was sent, and the most."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part, part, part]}]}
    problem = problem_of(400, body("At most 2 image(s) may be provided in one prompt."), CHAT, fields)
    assert problem.param == "messages"
    assert (
        problem.text == "'messages' must be a prompt with at most 2 of the kind image; you sent 3 image_url."
    )


@pytest.mark.parametrize(
    ("message", "field", "allowed"),
    [
        ("Unsupported language: 'xx'.  Must be one of ['en', 'de'].", "language", "ISO-639-1"),
        ("Invalid or unsupported audio file.", "file", "can be decoded"),
        ("Maximum file size exceeded (parameter=audio_filesize_mb, value=30.1)", "file", "25 MB"),
        (
            "Audio exceeds maximum allowed duration of 600s (decoded 9 samples at 1Hz). Set VLLM_X",
            "file",
            "600 seconds",
        ),
    ],
)
def test_what_is_wrong_with_a_recording_is_told(message, field, allowed):
    """The form's own fields, and the engine's limits."""
    problem = problem_of(400, body(message), TRANSCRIPTIONS, {"file": object(), "language": "xx"})
    assert (problem.code, problem.param) == ("invalid_value", field)
    assert allowed in problem.text
    assert "VLLM" not in problem.text


CONSTRAINED = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}}


def test_a_constraint_that_cannot_be_compiled_is_the_callers_to_mend():
    """vLLM says 500 to such a request alone; without a constraint the same words are its own failure."""
    failed = body("Internal server error", code=500)
    found = problem_of(500, failed, CHAT, CONSTRAINED)
    assert (found.status, found.code, found.param) == (400, "invalid_value", "response_format")
    assert problem_of(500, failed, CHAT, {}).code == "engine_failed"
    assert (
        problem_of(500, body("EngineCore encountered an issue", code=500), CHAT, CONSTRAINED).code
        == "engine_failed"
    )


def test_an_error_event_is_read_as_a_refusal():
    """Completions are judged after the head of their stream has left the engine."""
    event = body("Requested sample logprobs of 999, which is greater than max allowed: 20", "logprobs")
    found = problem_in(event, COMPLETIONS, {"logprobs": 999})
    assert (found.status, found.param) == (400, "logprobs")
    assert problem_in(b'{"type":"error","error":{"message":"x"}}', MESSAGES).code == "engine_failed"


@pytest.mark.parametrize(
    ("status", "message", "prompts", "early"),
    [
        (400, "top_p must be in (0, 1], got 2.", 1, True),
        (400, "top_p must be in (0, 1], got 2.", 2, False),
        (
            400,
            "1 validation error for AnthropicContentBlock\ninput\n  Input should be a valid dictionary",
            1,
            False,
        ),
        (400, "Out of range float values are not JSON compliant: nan", 1, False),
        (404, "The model `x` does not exist.", 1, True),
    ],
)
def test_only_a_refusal_of_values_proves_that_nothing_was_generated(status, message, prompts, early):
    """Whatever else is 400 may have cost tokens, and so may one prompt's refusal beside others."""
    problem = problem_of(status, body(message), CHAT)
    assert precedes_work(status, problem, prompts) is early


def test_an_answer_that_could_not_be_formed_is_no_fault_of_the_caller():
    """A tool call whose arguments are no object: 502, for the request was sound."""
    message = "1 validation error for AnthropicContentBlock\ninput\n  Input should be a valid dictionary"
    assert problem_of(400, body(message), MESSAGES).code == "engine_failed"
    request = "1 validation error for ChatCompletionToolsParam\nfunction.name\n  String should match"
    assert problem_of(400, body(request), MESSAGES, {"tools": []}).status == 400

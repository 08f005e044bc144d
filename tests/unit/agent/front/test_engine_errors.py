"""An engine's refusal, told in our words."""

import json

import pytest

from pareta_agent.front.engine_errors import problem_of
from pareta_agent.front.routes import CHAT, MESSAGES, RESPONSES


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

"""What the events and documents of responses and messages tell a meter."""

import json

import pytest

from pareta_agent.contract.usage_record import Tokens
from pareta_agent.gateway.api.dialects import anthropic_messages, openai_responses
from pareta_agent.gateway.api.dialects.anthropic_messages import MESSAGES_DIALECT
from pareta_agent.gateway.api.dialects.openai_responses import RESPONSES_DIALECT
from pareta_agent.gateway.upstream.sse import Listener


def event(kind, **more) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more}, separators=(',', ':'))}\n\n".encode()


def response(status, output=2, **more):
    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": output}
    return {
        "id": "resp_1",
        "status": status,
        "usage": {**usage, "output_tokens_details": {"reasoning_tokens": 1}},
        **more,
    }


DELTA = event("response.output_text.delta", delta="hi", sequence_number=4)
TEXT = event("content_block_delta", delta={"type": "text_delta", "text": "hi"}, index=0)


@pytest.mark.parametrize(
    ("last", "reasons", "tokens"),
    [
        (response("completed"), ["stop"], Tokens(5, 1, 2, 1)),
        (response("incomplete"), ["length"], Tokens(5, 1, 2, 1)),
        (response("cancelled"), ["abort"], Tokens(5, 1, 2, 1)),
        (response("completed", 0), ["abort"], Tokens(5, 1, 0, 1)),
        (response("completed", usage=None), ["abort"], None),
        (response("queued"), [], Tokens(5, 1, 2, 1)),
    ],
)
def test_a_response_ends_by_what_its_counts_allow(last, reasons, tokens):
    """Without a token nothing ended by itself, whatever its status says; streamed and whole alike."""
    listener = Listener(True, RESPONSES_DIALECT.stream_format)
    end = event("response.completed", response=last)
    assert listener.feed(DELTA + end) == DELTA
    reading = openai_responses.read(json.dumps(last).encode())
    assert (listener.done, listener.last, listener.finish_reasons, listener.tokens) == (
        True,
        end,
        reasons,
        tokens,
    )
    assert (list(reading.finish_reasons), reading.tokens) == (reasons, tokens)


@pytest.mark.parametrize(
    "bad",
    [
        event("error", code="x", message="/weights"),
        event("response.failed", response=response("failed")),
        b'data: {"error":{"message":"/weights"}}\n\n',
    ],
)
def test_a_failed_response_is_failed_and_its_words_are_kept_back(bad):
    """Both of the API's ways to say so, and the engine's own."""
    listener = Listener(True, RESPONSES_DIALECT.stream_format)
    assert listener.feed(DELTA + bad + DELTA) == DELTA
    assert (listener.failed, listener.done) == (True, False)


def test_a_message_ends_with_its_reason_and_its_usage():
    """`message_delta` brings both, `message_stop` is kept for the record."""
    usage = {
        "input_tokens": 3,
        "output_tokens": 2,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 0,
    }
    delta = event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
    listener = Listener(True, MESSAGES_DIALECT.stream_format)
    assert listener.feed(TEXT + delta + event("message_stop")) == TEXT + delta
    assert (listener.done, listener.last, listener.finish_reasons) == (
        True,
        event("message_stop"),
        ["end_turn"],
    )
    assert listener.tokens == Tokens(7, 4, 2, 0)


@pytest.mark.parametrize("stop", [{"stop_reason": None}, {}])
def test_a_message_without_a_reason_was_cut(stop):
    """Null in a stream, left out of a document."""
    listener = Listener(True, MESSAGES_DIALECT.stream_format)
    listener.feed(event("message_delta", delta=stop, usage={"input_tokens": 3, "output_tokens": 2}))
    assert listener.finish_reasons == ["abort"]
    assert anthropic_messages.read(json.dumps({"content": [], **stop}).encode()).finish_reasons == ("abort",)


@pytest.mark.parametrize(
    "is_content_only", [openai_responses.is_content_only, anthropic_messages.is_content_only]
)
def test_words_cannot_look_like_news(is_content_only):
    """Quotes in generated text are escaped; news is never content only."""
    for text in (
        '"response":',
        '"error"',
        '"usage":{',
        'event: message_stop\n\ndata: {"type":"message_stop"}',
    ):
        assert is_content_only(event("x", delta=text, index=0))
    for kind in ("error", "response.completed"):
        assert not openai_responses.is_content_only(event(kind, response={}))
    for news in (event("error", error={}), event("message_stop"), event("message_delta", usage={})):
        assert not anthropic_messages.is_content_only(news)


@pytest.mark.parametrize("read", [openai_responses.read, anthropic_messages.read])
@pytest.mark.parametrize("answer", [b"", b"[]", b"3", b'{"a":', b"null"])
def test_what_is_no_answer_raises_what_a_run_expects(read, answer):
    """And nothing else, so that it ends as a failure of the engine."""
    with pytest.raises((ValueError, TypeError, AttributeError)):
        read(answer)

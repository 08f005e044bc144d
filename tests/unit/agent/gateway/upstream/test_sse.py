"""What a stream tells the meter, and what of it the caller gets."""

import json

import pytest

from pareta_agent.contract.usage_record import Tokens
from pareta_agent.gateway.upstream.sse import EventTooLarge, Listener, data_of, is_content_only


def event(body) -> bytes:
    return (
        b"data: "
        + (body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode())
        + b"\n\n"
    )


def content(text="hi", reason=None, index=0) -> bytes:
    return event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]})


USAGE = event(
    {
        "choices": [],
        "usage": {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2},
        "system_fingerprint": "vllm-1",
    }
)
DONE = event(b"[DONE]")


def test_a_plain_stream_is_followed_to_its_end():
    """Content goes on, usage is kept back, the end is told and not given."""
    listener = Listener(wants_usage=False)
    given = listener.feed(content() + content(reason="stop") + USAGE + DONE)
    assert given == content() + content(reason="stop")
    assert (listener.done, listener.failed, listener.finish_reasons) == (True, False, ["stop"])
    assert listener.tokens == Tokens(3, 0, 2, 0)


def test_a_caller_who_asked_gets_the_usage_without_the_fingerprint():
    """The event is the engine's but for what would tell the engine."""
    listener = Listener(wants_usage=True)
    told = json.loads(data_of(listener.feed(USAGE)))
    assert told == {"choices": [], "usage": {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}}


def test_usage_beside_choices_is_taken_out_for_who_did_not_ask():
    """The choice stays."""
    listener = Listener(wants_usage=False)
    both = {
        "choices": [{"index": 0, "finish_reason": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    assert json.loads(data_of(listener.feed(event(both)))) == {"choices": both["choices"]}


def test_text_that_looks_like_news_is_only_text():
    """Needles inside a string cannot deceive: its quotes are escaped, and [DONE] is looked at whole."""
    listener = Listener(wants_usage=False)
    tricky = content('data: [DONE] "usage":{} {"error":1} "finish_reason":"stop"')
    assert listener.feed(tricky) == tricky
    assert (listener.done, listener.failed, listener.finish_reasons, listener.tokens) == (
        False,
        False,
        [],
        None,
    )


def test_an_error_event_ends_the_stream_unsaid():
    """Neither it nor what follows is given out."""
    listener = Listener(wants_usage=False)
    given = listener.feed(content() + event({"error": {"message": "/weights/secret"}}) + DONE)
    assert (given, listener.failed, listener.done) == (content(), True, False)


def test_nothing_counts_after_done():
    """Late events are dropped."""
    listener = Listener(wants_usage=True)
    assert listener.feed(DONE + content() + USAGE) == b""
    assert listener.tokens is None


@pytest.mark.parametrize("data", [b": keep-alive\n\n", b"event: x\ndata: y\n\n", b"data: not json usage\n\n"])
def test_other_events_pass(data):
    """Comments and foreign events are the caller's to read."""
    assert Listener(wants_usage=False).feed(data) == data


def test_crlf_events_are_events():
    """The framing of lines may be either."""
    listener = Listener(wants_usage=False)
    listener.feed(content(reason="stop").replace(b"\n", b"\r\n") + DONE.replace(b"\n", b"\r\n"))
    assert (listener.finish_reasons, listener.done) == (["stop"], True)


def test_an_endless_event_is_an_error(monkeypatch):
    """Memory for one event is bounded."""
    monkeypatch.setattr("pareta_agent.gateway.upstream.sse.MAX_EVENT_BYTES", 100)
    with pytest.raises(EventTooLarge):
        Listener(wants_usage=False).feed(b"data: " + b"x" * 200)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (content(), True),
        (content(reason="stop"), False),
        (USAGE, False),
        (DONE, False),
        (event({"error": 1}), False),
    ],
)
def test_news_is_never_dull(data, expected):
    """What matters is found by its needle."""
    assert is_content_only(data) is expected

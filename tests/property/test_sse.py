"""Streams cut anywhere say the same: to the meter, and to the caller byte by byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.gateway.api.dialects.anthropic_messages import MESSAGES_DIALECT
from pareta_agent.gateway.api.dialects.base import OPENAI
from pareta_agent.gateway.api.dialects.openai_responses import RESPONSES_DIALECT
from pareta_agent.gateway.upstream.chunked import LAST_CHUNK, ChunkReader, chunk, template_of
from pareta_agent.gateway.upstream.relay import Relay
from pareta_agent.gateway.upstream.sse import Listener

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
words = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "data: [DONE]\n\n", '"usage":{', "é漢🙂", "\r\n", '{"error":']
)


def event(text, reason=None, ascii_only=False) -> bytes:
    body = {"id": "x", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}
    return (
        b"data: "
        + json.dumps(body, separators=(",", ":"), ensure_ascii=ascii_only).encode("utf-8", "replace")
        + b"\n\n"
    )


def usage(output) -> bytes:
    body = {
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": output, "total_tokens": 3 + output},
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def cut(data: bytes, draw) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a != b]


class Caller:
    """A relay's sink that keeps what it got, its framing taken off."""

    def __init__(self):
        self.framed = ChunkReader()
        self.got = b""
        self.ended = []

    def stream_gave(self, payload):
        self.got += payload

    def verbatim(self):
        def take(data):
            self.got += self.framed.feed(data)

        return take

    def stream_ended(self):
        self.ended.append("ended")

    def document_came(self, status, body):
        self.ended.append((status, body))

    def engine_lost(self):
        self.ended.append("lost")

    def relay_failed(self, error):
        self.ended.append(repr(error))


class Engine:
    """A connection that is given back or not."""

    returned = False

    def give_back(self):
        self.returned = True

    def abort(self):
        pass


@given(st.data(), st.lists(words, max_size=8), st.booleans(), st.booleans())
def test_a_relayed_stream_is_the_same_however_the_network_cuts_it(data, texts, wants_usage, grouped):
    """The caller's bytes equal the reference, the meter's count too, the connection is whole again."""
    contents = [event(text) for text in texts] + [event("", "stop")]
    sent = [*contents, usage(7), DONE]
    framed = chunk(b"".join(sent)) if grouped else b"".join(chunk(e) for e in sent)
    caller, engine = Caller(), Engine()
    relay = Relay(engine, caller, wants_usage, 10**6)
    for piece in cut(HEAD + framed + LAST_CHUNK, data.draw):
        relay.feed(piece)
    assert caller.got == b"".join(contents + ([usage(7)] if wants_usage else []))
    assert caller.ended == ["ended"]
    assert (relay.listener.finish_reasons, relay.listener.tokens.output) == (["stop"], 7)
    assert engine.returned


def typed(kind, **more) -> bytes:
    body = json.dumps({"type": kind, **more}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {body}\n\n".encode("utf-8", "replace")


def response(texts) -> tuple[object, list[bytes]]:
    """A stream of responses; the last event holds everything that was said."""
    whole = {"status": "completed", "output": texts, "usage": {"input_tokens": 3, "output_tokens": 7}}
    words = [
        typed("response.output_text.delta", delta=text, sequence_number=i) for i, text in enumerate(texts)
    ]
    opening = typed("response.created", response={"status": "in_progress", "usage": None})
    return RESPONSES_DIALECT, [opening, b": comment\n\n", *words, typed("response.completed", response=whole)]


def message(texts) -> tuple[object, list[bytes]]:
    start = typed("message_start", message={"usage": {"input_tokens": 3, "output_tokens": 0}})
    words = [
        typed("content_block_delta", delta={"type": "text_delta", "text": text}, index=0) for text in texts
    ]
    usage = {"input_tokens": 3, "output_tokens": 7}
    end = typed("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    return MESSAGES_DIALECT, [start, typed("ping"), *words, b": comment\n\n", end, typed("message_stop")]


@given(st.data(), st.lists(words, max_size=8), st.sampled_from([response, message]), st.booleans())
def test_a_typed_stream_is_the_same_however_the_network_cuts_it(data, texts, stream, grouped):
    """All but the last event as it came, the last one kept, the counts read, the connection whole again."""
    dialect, sent = stream(texts)
    framed = chunk(b"".join(sent)) if grouped else b"".join(chunk(e) for e in sent)
    caller, engine = Caller(), Engine()
    relay = Relay(engine, caller, False, 10**6, dialect.stream_format)
    for piece in cut(HEAD + framed + LAST_CHUNK, data.draw):
        relay.feed(piece)
    assert (caller.got, caller.ended, relay.listener.last) == (b"".join(sent[:-1]), ["ended"], sent[-1])
    assert (len(relay.listener.finish_reasons), relay.listener.tokens.output) == (1, 7)
    assert engine.returned


@pytest.mark.slow
@pytest.mark.parametrize("stream", [response, message])
def test_a_typed_stream_may_be_cut_at_every_byte(stream):
    """In two at each place, byte by byte, with either line end, around a word as large as an answer can be."""
    for giant in ("é漢🙂", "x" * 100_000):
        dialect, sent = stream(["a", giant, '"response":{"usage":{', "data: [DONE]"])
        framed = HEAD + b"".join(chunk(e) for e in sent) + LAST_CHUNK
        places = range(len(framed)) if len(framed) < 10_000 else range(0, len(framed), 997)
        for pieces in [*((framed[:at], framed[at:]) for at in places), [bytes([b]) for b in framed[:20_000]]]:
            caller = Caller()
            relay = Relay(Engine(), caller, False, 10**7, dialect.stream_format)
            for piece in pieces:
                relay.feed(piece)
            whole = b"".join(sent[:-1])
            assert caller.got == (whole if b"".join(pieces) == framed else whole[: len(caller.got)])
            assert b"".join(pieces) != framed or caller.ended == ["ended"]
        listener = Listener(False, dialect.stream_format)
        given_back = listener.feed(b"".join(sent).replace(b"\n", b"\r\n"))
        assert given_back == b"".join(sent[:-1]).replace(b"\n", b"\r\n")
        assert listener.done


@given(st.data(), st.lists(words, min_size=1, max_size=6), st.sampled_from([b"\n", b"\r\n"]))
def test_a_listener_does_not_care_for_pieces(data, texts, newline):
    """Fed in pieces or whole, with either line end, it hears the same."""
    stream = b"".join(
        [*(event(text, ascii_only=True) for text in texts), event("", "length"), usage(2), DONE]
    )
    stream = stream.replace(b"\n", newline)
    whole, pieces = Listener(True), Listener(True)
    expected = whole.feed(stream)
    got = b"".join(pieces.feed(piece) for piece in cut(stream, data.draw))
    assert (got, pieces.tokens, pieces.finish_reasons, pieces.done) == (
        expected,
        whole.tokens,
        whole.finish_reasons,
        True,
    )


@given(st.data(), st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_framing_comes_off_however_it_is_cut(data, payloads):
    """The payload is the payload."""
    reader = ChunkReader()
    framed = b"".join(map(chunk, payloads)) + LAST_CHUNK
    got = b"".join(reader.feed(piece) for piece in cut(framed, data.draw))
    assert (got, reader.ended) == (b"".join(payloads), True)


dialects = st.sampled_from([OPENAI, RESPONSES_DIALECT, MESSAGES_DIALECT])
bodies = st.recursive(
    st.none()
    | st.integers()
    | st.sampled_from(["stop", "response.completed", "message_delta", "message_stop", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "response", "delta", "usage", "choices", "error", "stop_reason", "status"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@given(st.lists(bodies, max_size=5), dialects)
def test_events_that_no_engine_sends_never_raise(events, dialect):
    """Any JSON where an event should be: it is passed, kept or ends the relay once."""
    caller = Caller()
    relay = Relay(Engine(), caller, False, 10**6, dialect.stream_format)
    relay.feed(HEAD)
    for body in events:
        relay.feed(chunk(b"data: " + json.dumps(body).encode() + b"\n\n"))
    assert len(caller.ended) <= 1


@given(st.binary(max_size=200), st.booleans(), dialects)
def test_garbage_from_an_engine_never_raises(garbage, after_head, dialect):
    """It ends the relay at most once, or waits for more."""
    caller = Caller()
    relay = Relay(Engine(), caller, False, 1000, dialect.stream_format)
    relay.feed((HEAD if after_head else b"") + garbage)
    assert len(caller.ended) <= 1


@given(words, words)
def test_what_fits_a_template_is_dull(learnt, seen):
    """No event with news can pass as one without."""
    template = template_of(event(learnt))
    for reason, expected in ((None, True), ("stop", False)):
        framed = chunk(event(seen, reason))
        if template is not None and template.fits(framed):
            assert expected

"""Transcription: documents counted in seconds of audio; streams, which report no seconds, in the engine's tokens.
Pure.

The engine streams a transcription in the format of a chat. Each event becomes an OpenAI transcription event; the last
carries the whole text and the usage.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import orjson

from pareta_agent.contract.usage_record import Tokens
from pareta_agent.gateway.api.dialects.base import OPENAI, Reading
from pareta_agent.gateway.upstream.sse import DONE_EVENT, Listener, StreamFormat
from pareta_agent.meter.usage import tokens_of


def read(answer: bytes) -> Reading:
    """A whole transcription, counted in started seconds; the engine reports no tokens."""
    document = orjson.loads(answer)
    usage_of = document.get("usage", document)
    seconds = usage_of.get("seconds", usage_of.get("duration"))
    counted = isinstance(seconds, int | float) and seconds >= 0
    return Reading((), Tokens() if counted else None, answer, math.ceil(seconds) if counted else 0)


def parse_event(listener: Listener, _event: bytes, body: dict[str, Any]) -> bytes:
    """Translates an event of the engine into OpenAI's; the last event waits in `listener.last`."""
    if body.get("error"):
        listener.failed = True
        return b""
    text = ""
    for choice in body.get("choices") or ():
        text += (choice.get("delta") or {}).get("content") or ""
        if isinstance(choice.get("finish_reason"), str):
            listener.finish_reasons.append(choice["finish_reason"])
    if isinstance(usage := body.get("usage"), dict):
        listener.tokens = tokens_of(usage)
    listener.text += text
    listener.last = _done(listener.text, listener.tokens) + DONE_EVENT
    return _event_of({"type": "transcript.text.delta", "delta": text}) if text else b""


def _done(text: str, tokens: Tokens | None) -> bytes:
    event: dict[str, Any] = {"type": "transcript.text.done", "text": text}
    if tokens is not None:
        counts = {"input_tokens": tokens.input, "output_tokens": tokens.output}
        event["usage"] = {"type": "tokens", **counts, "total_tokens": tokens.input + tokens.output}
    return _event_of(event)


def _event_of(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


# No event is passed on unread: each is replaced.
TRANSCRIPTION_DIALECT: Final = replace(
    OPENAI, read=read, stream_format=StreamFormat(lambda _: False, parse_event, (), 0)
)

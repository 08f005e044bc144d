"""Server-sent events: reads a stream's usage, errors and end, and selects the caller's events. Pure.

Most chunks hold content only, and a search for a few needles proves that: a needle holds a bare quote, which JSON
escapes inside strings, so generated text cannot contain a needle. Any other event is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pareta_agent.contract.usage_record import Tokens
from pareta_agent.gateway.upstream.chunked import OPENINGS, Template, template_of
from pareta_agent.meter.usage import tokens_of

NEEDLES: Final = (b'"usage":{', b'"finish_reason":"', b'{"error":', b"[DONE]")
DONE_EVENT: Final = b"data: [DONE]\n\n"
MAX_EVENT_BYTES: Final = 8 * 2**20
_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")
_FINGERPRINT: Final = b'"system_fingerprint":"'


class EventTooLarge(ValueError):
    """The engine sent an event beyond `MAX_EVENT_BYTES`."""


def is_content_only(data: bytes) -> bool:
    """True if whole events hold content only; a false negative costs a parse."""
    usage, finish, error, done = NEEDLES
    return data.find(finish) < 0 and data.find(usage) < 0 and data.find(done) < 0 and data.find(error) < 0


def data_of(event: bytes) -> bytes:
    """The data of an event: the `data:` lines joined; empty for a comment."""
    lines = [line[5:].lstrip(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """The stream format of a family of routes. `parse_event` parses the events that `is_content_only` does not skip.

    `openings` precede an event's text; `overhead` counts the events of an answer without text.
    """

    is_content_only: Callable[[bytes], bool]
    parse_event: Callable[[Listener, bytes, dict[str, Any]], bytes]
    openings: tuple[bytes, ...]
    overhead: int


def parse_choices_event(listener: Listener, event: bytes, body: dict[str, Any]) -> bytes:
    """Notes the content of a chat or completions event; returns the caller's part of the event."""
    if body.get("error"):
        listener.failed = True
        return b""
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if isinstance(reason, str):
            listener.finish_reasons.append(reason)
    usage = body.get("usage")
    if isinstance(usage, dict):
        listener.tokens = tokens_of(usage)
        if not listener.wants_usage:
            if not choices:
                return b""
            body.pop("usage")
            return b"data: " + orjson.dumps(body) + b"\n\n"
    if body.pop("system_fingerprint", None) is None:
        return event
    return b"data: " + orjson.dumps(body) + b"\n\n"


CHOICES: Final = StreamFormat(is_content_only, parse_choices_event, OPENINGS, 1)


class Listener:
    """Parses a single stream: `feed` takes payload split anywhere and returns the part that the caller may have now.

    - `done`: true after the last event, which is kept in `last` until the record is durable.
    - `failed`: true after an error event, which is kept in `error`.
    - `text`: for formats that repeat the whole text at the end.
    - `template`: the bytes around the text.
    """

    __slots__ = (
        "_rest",
        "_stream_format",
        "done",
        "error",
        "events",
        "failed",
        "finish_reasons",
        "last",
        "template",
        "text",
        "tokens",
        "wants_usage",
    )

    def __init__(self, wants_usage: bool, stream_format: StreamFormat = CHOICES) -> None:
        self.wants_usage = wants_usage
        self._stream_format = stream_format
        self._rest = b""
        self.last, self.text, self.error = DONE_EVENT, "", b""
        self.done = self.failed = False
        self.finish_reasons: list[str] = []
        self.tokens: Tokens | None = None
        self.template: Template | None = None
        self.events = 0

    @property
    def at_boundary(self) -> bool:
        """True if no event is partial."""
        return not self._rest

    def feed(self, payload: bytes) -> bytes:
        """Parses payload; raises EventTooLarge."""
        self._rest += payload
        given: list[bytes] = []
        at = 0
        for end in _EVENT_END.finditer(self._rest):
            if self.done or self.failed:
                break
            event = self._rest[at : end.end()]
            at = end.end()
            given.append(self._take(event))
        self._rest = b"" if self.done or self.failed else self._rest[at:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLarge
        return b"".join(given)

    def _take(self, event: bytes) -> bytes:
        """Handles a whole event; returns the caller's part."""
        self.events += 1
        if self._stream_format.is_content_only(event) and _FINGERPRINT not in event:
            if self.template is None and self.events > 1:
                self.template = template_of(event, self._stream_format.openings)
            return event
        data = data_of(event)
        if data == b"[DONE]":
            self.done = True
            return b""
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            return event
        given = self._stream_format.parse_event(self, event, body) if isinstance(body, dict) else event
        self.error = data if self.failed else b""
        return given

"""Chunked framing: reads and writes HTTP/1.1 chunks, strictly. Pure: bytes in, payload out, no sockets."""

from __future__ import annotations

from typing import Final

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
MAX_SIZE_LINE: Final = 64
MAX_STARTS: Final = 64
OPENINGS: Final = (b'"content":"', b'"text":"')
# Sizes in uvicorn's format. A table is faster than int(), which would take signs, blanks and prefixes as well.
_SIZES: Final = {b"%x" % size: size for size in range(1, 4096)}


class BadFraming(ValueError):
    """The engine's bytes are not chunked framing."""


def whole_events(data: bytes) -> int:
    """The number of chunks in `data`, if `data` is whole chunks that each end an event; else 0.

    Such bytes may pass to the caller unchanged: no chunk is partial, and a body's last chunk is excluded.
    """
    at = chunks = 0
    while at < len(data):
        found = _whole_chunk(data, at)
        if found is None or not data.endswith(b"\n\n", *found):
            return 0
        at = found[1] + 2
        chunks += 1
    return chunks


def _whole_chunk(data: bytes, at: int) -> tuple[int, int] | None:
    """Start and end of the payload of the chunk that starts here, if the chunk is whole and not the last."""
    line_end = data.find(b"\r\n", at, at + 8)
    size = _SIZES.get(data[at:line_end], 0) if line_end > at else 0
    end = line_end + 2 + size
    return (line_end + 2, end) if size and data[end : end + 2] == b"\r\n" else None


class Template:
    """The bytes around a stream's text, learnt from an event: most chunks differ in the text alone.

    `prefix` ends after the text's opening quote; `suffix` runs from the closing quote to the chunk's end. Text without
    a quote cannot end the string, so a chunk that fits holds content only, like the first. `starts` maps a chunk's
    length to the size line and prefix. A chunk of such a length fits if the start matches, the end is `suffix`, and no
    quote stands between.
    """

    __slots__ = ("_least", "_prefix", "starts", "suffix")

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self._prefix = prefix
        self.suffix = suffix
        self._least = len(prefix) + len(suffix) - 2
        self.starts: dict[int, bytes] = {}

    def fits(self, data: bytes) -> int:
        """The number of whole chunks in `data`, if each is a content-only event of this stream; else 0."""
        chunks = self._walk(data)
        if chunks == 1 and len(self.starts) < MAX_STARTS:
            self.starts[len(data)] = data[: data.find(b"\r\n") + 2] + self._prefix
        return chunks

    def _walk(self, data: bytes) -> int:
        prefix, suffix = self._prefix, self.suffix
        at = chunks = 0
        size = len(data)
        while at < size:
            start = data.find(b"\r\n", at, at + 8) + 2
            length = _SIZES.get(data[at : start - 2], 0)
            at = start + length + 2
            if (
                start < 2
                or length < self._least
                or not data.startswith(prefix, start)
                or not data.endswith(suffix, start, at)
                or data.find(b'"', start + len(prefix), at - len(suffix)) >= 0
            ):
                return 0
            chunks += 1
        return chunks if at == size else 0


def template_of(event: bytes, openings: tuple[bytes, ...] = OPENINGS) -> Template | None:
    """The template of a content-only event with text after one of `openings`; None if neither is found."""
    for opening in openings:
        start = event.find(opening) + len(opening)
        end = event.find(b'"', start)
        if start >= len(opening) and end >= 0 and event.endswith(b"\n\n") and event[end - 1 : end] != b"\\":
            return Template(event[:start], event[end:] + b"\r\n")
    return None


class ChunkReader:
    """Removes chunked framing from bytes split anywhere. `ended` once the last chunk is whole."""

    __slots__ = ("_left", "_line", "_stage", "ended")

    def __init__(self) -> None:
        self._stage = "size"
        self._line = bytearray()
        self._left = 0
        self.ended = False

    @property
    def at_boundary(self) -> bool:
        """True if no chunk is partial."""
        return self._stage == "size" and not self._line

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`. Raises BadFraming, also for bytes after the last chunk."""
        payload: list[bytes] = []
        at = 0
        while at < len(data):
            if self.ended:
                raise BadFraming("bytes after the last chunk")
            if self.at_boundary and (whole := _whole_chunk(data, at)):
                start, end = whole
                payload.append(data[start:end])
                at = end + 2
            elif self._stage == "data":
                piece = data[at : at + self._left]
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._stage = "crlf"
            else:
                at = self._line_to(data, at)
        return b"".join(payload)

    def _line_to(self, data: bytes, at: int) -> int:
        """Collects a line up to the LF and handles the line; returns the position after the bytes taken."""
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > MAX_SIZE_LINE:
            raise BadFraming("a line of the framing is too long")
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._take_line(line)
        return stop

    def _take_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise BadFraming("a bare line feed in the framing")
        if self._stage == "size":
            digits = line[:-2]
            if not digits or len(digits) > 16 or not _HEX.issuperset(digits):
                raise BadFraming("not a chunk size")
            self._left = int(digits, 16)
            self._stage = "data" if self._left else "trailer"
        elif line != b"\r\n":
            raise BadFraming("no end of line where one belongs")
        elif self._stage == "trailer":
            self.ended = True
        else:
            self._stage = "size"


def chunk(payload: bytes) -> bytes:
    """A chunk with `payload`, which must not be empty."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK: Final = b"0\r\n\r\n"

"""A streaming load client in plain asyncio, for servers where tokens are slow enough to time in Python."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

Opener = Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass
class Seen:
    """What one run saw: seconds from sending to the first event, between events, and counts."""

    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    events: int = 0
    answers: int = 0
    errors: int = 0
    wall_s: float = 0.0


def at(url_or_socket: tuple[str, int] | str) -> Opener:
    """Opens connections to a (host, port) or to a unix socket's path."""
    if isinstance(url_or_socket, str):
        return lambda: asyncio.open_unix_connection(url_or_socket, limit=2**20)
    host, port = url_or_socket
    return lambda: asyncio.open_connection(host, port, limit=2**20)


def request(model: str, key: str, prompt: str, tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": model,
            # A system message of its own, so that an agent inserts none and both ways send the same prompt.
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(opener: Opener, make_request: Callable[[int], bytes], connections: int, requests: int) -> Seen:
    """`requests` in all, `connections` at a time, each connection kept alive."""
    seen, numbers = Seen(), iter(range(requests))
    start_s = time.perf_counter()
    await asyncio.gather(*(_worker(opener, make_request, numbers, seen) for _ in range(connections)))
    seen.wall_s = time.perf_counter() - start_s
    return seen


async def by_turns(
    ways: dict[str, Opener], make_request: Callable[[str, int], bytes], requests: int
) -> dict[str, Seen]:
    """`requests` on each way, one at a time and now on this one, now on that; a connection a way, kept alive."""
    seen = {way: Seen() for way in ways}
    connections = {way: await opener() for way, opener in ways.items()}
    for number in range(requests):
        for way in list(ways)[:: 1 if number % 2 else -1]:
            reader, writer = connections[way]
            writer.write(make_request(way, number))
            if not await _read_stream(reader, seen[way]):
                raise OSError(f"{way} did not answer")
            seen[way].answers += 1
    for _, writer in connections.values():
        writer.close()
    return seen


async def _worker(opener: Opener, make_request: Callable[[int], bytes], numbers: Any, seen: Seen) -> None:
    reader, writer = await opener()
    for number in numbers:
        writer.write(make_request(number))
        if await _read_stream(reader, seen):
            seen.answers += 1
        else:
            seen.errors += 1
            writer.close()
            reader, writer = await opener()
    writer.close()


async def _read_stream(reader: asyncio.StreamReader, seen: Seen) -> bool:
    sent_s = last_s = time.perf_counter()
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        return False
    first = True
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        payload = await reader.readexactly(size + 2)
        if not size:
            return True
        now_s = time.perf_counter()
        words = payload.count(b'"content":"')
        if words:
            seen.events += words
            if first:
                seen.first_s.append(now_s - sent_s)
                first = False
            else:
                seen.gaps_s.append(now_s - last_s)
            last_s = now_s

"""The channel between the main process and a worker: each message is delivered once."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from pareta_agent.ipc.channel import Channel


async def test_a_message_that_its_hearer_fails_at_is_not_heard_again() -> None:
    """Nor are those before it: a record that were settled twice, or a call that applied twice, would be counted so."""
    one, other = socket.socketpair()
    heard: list[Any] = []
    ended = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def hear(message: list[Any], _descriptors: object) -> None:
        heard.append(message[0])
        if message[0] == "bad":
            raise KeyError(message[0])
        if message[0] == "last":
            ended.set()

    speaker = Channel(one, lambda *_: None, lambda: None)
    hearer = Channel(other, hear, lambda: None)
    for message in ("first", "bad", "next"):
        speaker.send(message)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    speaker.send("last")
    async with asyncio.timeout(120):
        await ended.wait()
    for channel in (speaker, hearer):
        channel.close()
    assert heard == ["first", "bad", "next", "last"]

"""Does it answer, and rightly? Health, then the catalog's canary, over the engine's socket.

Health alone says only that a server listens: a wrong build answers 200 and talks nonsense.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from pareta_registry.catalog import Canary

_HEALTH_TIMEOUT_S = 5.0
FAULTS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the canary got: `text` is for the node's owner; None when there was no answer at all."""

    passed: bool
    text: str | None
    status: int | None = None


async def healthy(socket: Path) -> bool:
    """Whether the engine says 200 on /health."""
    try:
        async with (
            session(socket, _HEALTH_TIMEOUT_S) as opened,
            opened.get("http://engine/health") as response,
        ):
            return response.status == 200
    except FAULTS:
        return False


async def metrics(socket: Path, timeout_s: float) -> str | None:
    """The engine's own series as text, None when it does not answer."""
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.get("http://engine/metrics") as response,
        ):
            return await response.text() if response.status == 200 else None
    except (*FAULTS, UnicodeDecodeError):
        return None


async def ask(socket: Path, endpoint: str, canary: Canary, timeout_s: float) -> Answer:
    """Puts the canary's prompt, greedy, as a chat; as a plain completion where the model has no chat template."""
    chat = {"messages": [{"role": "user", "content": canary.prompt}]}
    status, text = await _complete(socket, endpoint, "chat/completions", canary, chat, timeout_s)
    if status == 400:
        status, text = await _complete(
            socket, endpoint, "completions", canary, {"prompt": canary.prompt}, timeout_s
        )
    return Answer(text is not None and canary.contains.lower() in text.lower(), text, status)


async def _complete(
    socket: Path, endpoint: str, route: str, canary: Canary, body: Mapping[str, object], timeout_s: float
) -> tuple[int | None, str | None]:
    asked = {**body, "model": endpoint, "max_tokens": canary.max_tokens, "temperature": 0, "seed": 0}
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.post(f"http://engine/v1/{route}", json=asked) as response,
        ):
            if response.status != 200:
                return response.status, None
            choice = (await response.json())["choices"][0]
            return 200, str(choice["message"]["content"] if "message" in choice else choice["text"])
    except (*FAULTS, ValueError, LookupError, TypeError):
        return None, None


def session(socket: Path, timeout_s: float) -> aiohttp.ClientSession:
    """For requests to `http://engine/…`, each of which ends within `timeout_s`; whatever goes wrong is of FAULTS."""
    connector = aiohttp.UnixConnector(path=str(socket))
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s))

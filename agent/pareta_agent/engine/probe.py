"""Does it answer, and rightly? Health, then the catalog's canary, over the engine's socket.

Health alone says only that a server listens: a wrong build answers 200 and talks nonsense.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from pareta_agent.telemetry.events import Event
from pareta_registry.catalog import Canary

DEAD = 503
_HEALTH_TIMEOUT_S = 5.0
FAULTS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the canary got: `text` is for the node's owner; None when there was no answer at all.

    `used` is what the engine counted for it, prompt and answer.
    """

    passed: bool
    text: str | None
    status: int | None = None
    used: tuple[int, int] = (0, 0)

    def told(self, replica: str, generation: int) -> Event:
        """For whoever counts what that engine is asked."""
        used = {"input_tokens": self.used[0], "output_tokens": self.used[1]}
        where = {"replica": replica, "generation": generation}
        return Event("canary_answered", "debug", {**where, "passed": self.passed, **used})


async def health(socket: Path) -> int | None:
    """What the engine says on /health: 200, `DEAD` once its core is gone; None when it does not answer."""
    try:
        async with (
            session(socket, _HEALTH_TIMEOUT_S) as opened,
            opened.get("http://engine/health") as response,
        ):
            return response.status
    except FAULTS:
        return None


async def healthy(socket: Path) -> bool:
    return await health(socket) == 200


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
    answer = await _complete(socket, endpoint, "chat/completions", canary, chat, timeout_s)
    if answer.status == 400:
        plain = {"prompt": canary.prompt}
        answer = await _complete(socket, endpoint, "completions", canary, plain, timeout_s)
    return answer


async def _complete(
    socket: Path, endpoint: str, route: str, canary: Canary, body: Mapping[str, object], timeout_s: float
) -> Answer:
    asked = {**body, "model": endpoint, "max_tokens": canary.max_tokens, "temperature": 0, "seed": 0}
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.post(f"http://engine/v1/{route}", json=asked) as response,
        ):
            if response.status != 200:
                return Answer(False, None, response.status)
            document = await response.json()
            choice, usage = document["choices"][0], document.get("usage") or {}
            text = str(choice["message"]["content"] if "message" in choice else choice["text"])
            used = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
            return Answer(canary.contains.lower() in text.lower(), text, 200, used)
    except (*FAULTS, ValueError, LookupError, TypeError):
        return Answer(False, None)


def session(socket: Path, timeout_s: float) -> aiohttp.ClientSession:
    """For requests to `http://engine/…`, each of which ends within `timeout_s`; whatever goes wrong is of FAULTS."""
    connector = aiohttp.UnixConnector(path=str(socket))
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s))

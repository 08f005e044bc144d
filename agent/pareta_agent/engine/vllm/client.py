"""Engine client: sends health checks, canaries, sleep and adapter requests to one engine over its unix socket.

A 200 of /health means only that a server listens: a wrong build answers 200 and talks nonsense, which the canary
shows. A 200 of a sleep route means only that the route answered, so `is_sleeping` follows each change. vLLM serves the
sleep routes with `VLLM_SERVER_DEV_MODE` and the adapter routes with `VLLM_ALLOW_RUNTIME_LORA_UPDATING`: both trust
every client that reaches the socket. The socket lies in a directory of mode 0700, and the gateway forwards no such
route, so the agent is the only client.
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
FAULTS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
_HEALTH_TIMEOUT_S = 5.0
_SHORT_TIMEOUT_S = 10.0
_ADAPTER_LOAD_TIMEOUT_S = 120.0
_SLEEP_IN_HOST_MEMORY = 1


@dataclass(frozen=True, slots=True)
class CanaryAnswer:
    """`text` is for the node's owner; None when there was no answer at all.

    `used` is what the engine counted for the canary: prompt and completion tokens.
    """

    passed: bool
    text: str | None
    status: int | None = None
    used: tuple[int, int] = (0, 0)

    def event(self, replica: str, generation: int) -> Event:
        """The event by which the usage audit subtracts the canary's tokens from the engine's counters."""
        used = {"input_tokens": self.used[0], "output_tokens": self.used[1]}
        where = {"replica": replica, "generation": generation}
        return Event("canary_answered", "debug", {**where, "passed": self.passed, **used})


class AdapterRefused(Exception):
    """The engine refused an adapter; the engine's words may name paths: for the node's owner only."""


def session(socket: Path, timeout_s: float) -> aiohttp.ClientSession:
    """A session for `http://engine/…`; each request ends within `timeout_s`, and every failure is in FAULTS."""
    connector = aiohttp.UnixConnector(path=str(socket))
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s))


async def health(socket: Path) -> int | None:
    """Status of /health: 200, `DEAD` once the engine core is gone; None without an answer."""
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
    """The engine's own series as text; None without an answer."""
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.get("http://engine/metrics") as response,
        ):
            return await response.text() if response.status == 200 else None
    except (*FAULTS, UnicodeDecodeError):
        return None


async def send_canary(socket: Path, endpoint: str, canary: Canary, timeout_s: float) -> CanaryAnswer:
    """Sends the canary's prompt, greedy, as a chat; as a plain completion where the model has no chat template."""
    chat = {"messages": [{"role": "user", "content": canary.prompt}]}
    answer = await _complete(socket, endpoint, "chat/completions", canary, chat, timeout_s)
    if answer.status == 400:
        plain = {"prompt": canary.prompt}
        answer = await _complete(socket, endpoint, "completions", canary, plain, timeout_s)
    return answer


async def _complete(
    socket: Path, endpoint: str, route: str, canary: Canary, body: Mapping[str, object], timeout_s: float
) -> CanaryAnswer:
    sent = {**body, "model": endpoint, "max_tokens": canary.max_tokens, "temperature": 0, "seed": 0}
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.post(f"http://engine/v1/{route}", json=sent) as response,
        ):
            if response.status != 200:
                return CanaryAnswer(False, None, response.status)
            document = await response.json()
            choice, usage = document["choices"][0], document.get("usage") or {}
            text = str(choice["message"]["content"] if "message" in choice else choice["text"])
            used = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
            return CanaryAnswer(canary.contains.lower() in text.lower(), text, 200, used)
    except (*FAULTS, ValueError, LookupError, TypeError):
        return CanaryAnswer(False, None)


async def is_sleeping(socket: Path) -> bool | None:
    """True where the engine sleeps; None without a clear answer."""
    try:
        async with (
            session(socket, _SHORT_TIMEOUT_S) as opened,
            opened.get("http://engine/is_sleeping") as response,
        ):
            return bool((await response.json())["is_sleeping"]) if response.status == 200 else None
    except (*FAULTS, ValueError, LookupError, TypeError):
        return None


async def sleep(socket: Path, timeout_s: float) -> bool:
    """Moves the weights into host memory and frees the rest of the GPU's; whether the engine sleeps afterwards.

    The engine must be idle: vLLM cuts requests that run.
    """
    return bool(await is_sleeping(socket)) or (
        await _changes_sleep(socket, f"sleep?level={_SLEEP_IN_HOST_MEMORY}", timeout_s)
        and await is_sleeping(socket) is True
    )


async def wake_up(socket: Path, timeout_s: float) -> bool:
    """Wakes the engine; only a canary shows whether the weights came back whole."""
    return await _changes_sleep(socket, "wake_up", timeout_s) and await is_sleeping(socket) is False


async def _changes_sleep(socket: Path, route: str, timeout_s: float) -> bool:
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.post(f"http://engine/{route}") as response,
        ):
            return response.status == 200
    except FAULTS:
        return False


async def loaded_adapters(socket: Path) -> Mapping[str, str]:
    """The directory of each adapter that the engine has loaded, by served name. Raises OSError without an answer."""
    try:
        async with (
            session(socket, _SHORT_TIMEOUT_S) as opened,
            opened.get("http://engine/v1/models") as response,
        ):
            cards = (await response.json())["data"]
            return {card["id"]: card["root"] for card in cards if card.get("parent")}
    except (*FAULTS, ValueError, LookupError, TypeError) as error:
        raise OSError(f"the engine does not say which adapters it has ({type(error).__name__})") from None


async def load_adapter(socket: Path, name: str, directory: Path) -> None:
    """Loads the adapter under the served name `name`. Raises AdapterRefused, OSError."""
    body = {"lora_name": name, "lora_path": str(directory)}
    await _change_adapter(socket, "load_lora_adapter", body, _ADAPTER_LOAD_TIMEOUT_S)


async def unload_adapter(socket: Path, name: str) -> None:
    """Stops serving `name`; the engine finishes accepted requests. Raises AdapterRefused, OSError."""
    await _change_adapter(socket, "unload_lora_adapter", {"lora_name": name}, _SHORT_TIMEOUT_S)


async def _change_adapter(socket: Path, route: str, body: Mapping[str, str], timeout_s: float) -> None:
    try:
        async with (
            session(socket, timeout_s) as opened,
            opened.post(f"http://engine/v1/{route}", json=body) as response,
        ):
            if response.status != 200:
                raise AdapterRefused((await response.text())[:1000])
    except FAULTS as error:
        raise OSError(f"the engine does not answer {route} ({type(error).__name__})") from None

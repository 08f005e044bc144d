"""vLLM's own sleep, over an engine's socket: weights into the host's memory, the rest of the GPU's given back.

Its routes come with `VLLM_SERVER_DEV_MODE`, which opens others to whoever reaches the engine: nobody but this agent
does. A 200 says only that the route answered, so the engine is asked each time whether it sleeps.
"""

from __future__ import annotations

from pathlib import Path

from pareta_agent.engine import probe

_ASK_S = 10.0
_IN_HOST_MEMORY = 1


async def sleeps(socket: Path) -> bool | None:
    """Whether it sleeps; None where it does not say."""
    try:
        async with (
            probe.session(socket, _ASK_S) as opened,
            opened.get("http://engine/is_sleeping") as response,
        ):
            return bool((await response.json())["is_sleeping"]) if response.status == 200 else None
    except (*probe.FAULTS, ValueError, LookupError, TypeError):
        return None


async def fell_asleep(socket: Path, timeout_s: float) -> bool:
    """Puts it to sleep, at once if it sleeps already; it must be idle, for what runs would be cut."""
    return bool(await sleeps(socket)) or (
        await _post(socket, f"sleep?level={_IN_HOST_MEMORY}", timeout_s) and await sleeps(socket) is True
    )


async def woke_up(socket: Path, timeout_s: float) -> bool:
    """Wakes it; whether its weights came back whole, a canary must tell."""
    return await _post(socket, "wake_up", timeout_s) and await sleeps(socket) is False


async def _post(socket: Path, route: str, timeout_s: float) -> bool:
    try:
        async with (
            probe.session(socket, timeout_s) as opened,
            opened.post(f"http://engine/{route}") as response,
        ):
            return response.status == 200
    except probe.FAULTS:
        return False

"""The LoRA adapters of a running engine, over its socket: which it has, one more, one less.

vLLM takes them at run time only where it is told to trust whoever reaches it, and nobody does but this agent: the
socket lies in a directory of 0700, and the front lets no such route through.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pareta_agent.engine import probe

_DEADLINE_S = 10.0
_LOAD_DEADLINE_S = 120.0


class NotTaken(Exception):
    """The engine's refusal in its own words, which may name paths: for the node's owner only."""


async def loaded(socket: Path) -> Mapping[str, str]:
    """The directory of each adapter that the engine answers as, by name. Raises OSError when it does not say."""
    try:
        async with (
            probe.session(socket, _DEADLINE_S) as opened,
            opened.get("http://engine/v1/models") as response,
        ):
            cards = (await response.json())["data"]
            return {card["id"]: card["root"] for card in cards if card.get("parent")}
    except (*probe.FAULTS, ValueError, LookupError, TypeError) as error:
        raise OSError(f"the engine does not say which adapters it has ({type(error).__name__})") from None


async def load(socket: Path, name: str, directory: Path) -> None:
    """From now on the engine answers as `name`, too. Raises NotTaken, OSError."""
    asked = {"lora_name": name, "lora_path": str(directory)}
    await _post(socket, "load_lora_adapter", asked, _LOAD_DEADLINE_S)


async def unload(socket: Path, name: str) -> None:
    """No new request can name it; those that the engine has taken are finished. Raises NotTaken, OSError."""
    await _post(socket, "unload_lora_adapter", {"lora_name": name}, _DEADLINE_S)


async def _post(socket: Path, route: str, body: Mapping[str, str], timeout_s: float) -> None:
    try:
        async with (
            probe.session(socket, timeout_s) as opened,
            opened.post(f"http://engine/v1/{route}", json=body) as response,
        ):
            if response.status != 200:
                raise NotTaken((await response.text())[:1000])
    except probe.FAULTS as error:
        raise OSError(f"the engine does not answer {route} ({type(error).__name__})") from None

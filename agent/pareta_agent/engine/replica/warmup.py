"""Warm-up: sends the calls at which an engine first compiles, during the start, so that no caller's call is the first.

Answers are not checked: an engine that refuses such a call refuses the callers' too, and serves all other calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pareta_agent.clock import Clock
from pareta_agent.engine.process.engine_process import cancel
from pareta_agent.engine.spec import PhaseLimits
from pareta_agent.engine.vllm import client

_SHARED: Final = {"prompt": "Hello", "max_tokens": 2, "temperature": 0}
_SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_SAMPLING: Final = {
    "temperature": 0.8,
    "seed": 0,
    "top_k": 8,
    "top_p": 0.9,
    "min_p": 0.01,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
    "min_tokens": 1,
    "logit_bias": {"1": 1.0},
}
ROUNDS: Final[Sequence[Mapping[str, Mapping[str, Any]]]] = (
    {"logprobs": {"logprobs": 1}},
    {
        "several_logprobs": {"logprobs": 5, "n": 2, "temperature": 0.8},
        "prompt_logprobs": {"logprobs": 1, "echo": True},
        "sampling": _SAMPLING,
        "structured_output": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA}}
        },
    },
)
"""One call alone, then the others at once: a batch of one and one of several are compiled apart."""


Still = Callable[[float, float], Awaitable[float]]
_POLL_S: Final = 0.1
_LAST_WORDS_S: Final = 2.0


@dataclass(slots=True)
class WarmUp:
    """`still_s` returns an engine's seconds of standstill since a moment, by a limit; `refused` are calls that failed
    (5xx).
    """

    socket: Path
    endpoint: str
    limits: PhaseLimits
    clock: Clock
    still_s: Still
    refused: list[str] = field(default_factory=list)

    async def run(self, exited: asyncio.Future[int | None]) -> Literal["done", "ended", "hung"]:
        """Sends round after round; `exited` ends with the engine."""
        for calls in ROUNDS:
            asked = asyncio.create_task(self._ask(calls))
            try:
                if not await self._answered(asked, exited):
                    return "ended" if exited.done() else "hung"
                self.refused += asked.result()
            finally:
                await cancel(asked)
        return "done"

    async def _answered(self, asked: asyncio.Future[list[str]], exited: asyncio.Future[int | None]) -> bool:
        begun_s, limit_s = self.clock.mono_s(), self.limits.probe_s
        either: set[asyncio.Future[Any]] = {asked, exited}
        while not asked.done() and not exited.done():
            if await self.still_s(begun_s, limit_s) > limit_s:
                return False
            await asyncio.wait(either, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
        if asked.done() and asked.result():  # perhaps the engine ends over the question
            await asyncio.wait({exited}, timeout=_LAST_WORDS_S)
        return not exited.done()

    async def _ask(self, calls: Mapping[str, Mapping[str, Any]]) -> list[str]:
        statuses = await asyncio.gather(*(self._status(body) for body in calls.values()))
        return [name for name, status in zip(calls, statuses, strict=True) if status is None or status >= 500]

    async def _status(self, body: Mapping[str, Any]) -> int | None:
        asked = {**_SHARED, **body, "model": self.endpoint}
        longest_s = 2 * (self.limits.compile_s + self.limits.probe_s)  # stillness ends the wait before
        try:
            async with (
                client.session(self.socket, longest_s) as opened,
                opened.post("http://engine/v1/completions", json=asked) as response,
            ):
                await response.read()
                return response.status
        except client.FAULTS:
            return None

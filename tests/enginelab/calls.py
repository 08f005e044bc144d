"""Callers of a whole node who note when each call began and how it ended, and whether the ledger says the same."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

ENDPOINT = "ep_contract_kie"
# The same question at two deaths would be put in quarantine.
_EACH_ONCE = (f"Count on from {number}." for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Call:
    """`said`: `whole`, an error's code, or the exception's name; `tokens` as usage told."""

    begun_s: float
    ended_s: float
    request_id: str | None
    said: str
    tokens: int = 0
    question: str = ""
    text: str = ""

    @property
    def typed(self) -> bool:
        """Whether a client knows what happened: the answer, an error with a code, or a connection that closed."""
        return self.said != "TimeoutError"


class Load:
    """Callers who ask again and again, once at least, half of them for streams."""

    def __init__(
        self,
        base_url: str,
        key: str,
        callers: int = 4,
        tokens: int = 24,
        endpoint: str = ENDPOINT,
        questions: Iterator[str] = _EACH_ONCE,
    ) -> None:
        self.calls: list[Call] = []
        self._url, self._questions = f"{base_url}/chat/completions", questions
        self._ask = {"model": endpoint, "max_tokens": tokens, "temperature": 0}
        self._headers = {"authorization": f"Bearer {key}"}
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(stream=n % 2 == 0)) for n in range(callers)]

    async def end(self) -> list[Call]:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.calls

    async def _run(self, *, stream: bool) -> None:
        timeout = aiohttp.ClientTimeout(total=180)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            while True:
                last = await self._call(session, stream=stream)
                self.calls.append(last)
                if self._stop.is_set():
                    return
                if last.said != "whole":
                    await asyncio.sleep(0.1)

    async def _call(self, session: aiohttp.ClientSession, *, stream: bool) -> Call:
        question = next(self._questions)
        body: dict[str, Any] = {**self._ask, "messages": [{"role": "user", "content": question}]}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        begun_s, request_id, text = time.monotonic(), None, b""
        try:
            async with session.post(self._url, json=body) as response:
                request_id = response.headers.get("x-request-id")
                async for chunk in response.content.iter_any():
                    text += chunk
                judged = _judged(response.status, text.decode(), stream=stream)
        except aiohttp.ClientPayloadError:
            judged = _judged(200, text.decode(), stream=True)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            judged = (type(error).__name__, 0, "")
        said, tokens, answer = judged
        return Call(begun_s, time.monotonic(), request_id, said, tokens, question, answer)


def _judged(status: int, text: str, *, stream: bool) -> tuple[str, int, str]:
    """What the caller of an answer knows, its tokens and its text."""
    if status != 200:
        return str(json.loads(text)["error"]["code"]), 0, ""
    if not stream:
        whole = json.loads(text)
        answer = whole["choices"][0]["message"]["content"]
        return "whole", int(whole["usage"]["completion_tokens"]), answer
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    if errors := [event["error"] for event in events if "error" in event]:
        return str(errors[0]["code"]), 0, ""
    if not text.endswith("data: [DONE]\n\n"):
        return "connection closed", 0, ""
    pieces = (choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    return "whole", int(events[-1]["usage"]["completion_tokens"]), "".join(pieces)


def in_flight(calls: Sequence[Call], from_s: float, until_s: float | None = None) -> list[Call]:
    """Those that were at that moment, or at any until the other one."""
    return [c for c in calls if c.begun_s < (from_s if until_s is None else until_s) and c.ended_s > from_s]


def account(rows: Sequence[dict[str, Any]], calls: Sequence[Call]) -> dict[str, int]:
    """The ledger against the callers. `unseen`: completed and on record, but death took the last bytes."""
    by_id = {row["request_id"]: row for row in rows}
    completed = {(row["request_id"], row["output_tokens"]) for row in rows if row["outcome"] == "completed"}
    whole = {(call.request_id, call.tokens) for call in calls if call.said == "whole"}
    free = all(row["debit_micro_usd"] == 0 for row in rows if row["outcome"] != "completed")
    return {
        "calls": len(calls),
        "whole": len(whole),
        "lost": len(whole - completed),
        "double": len(rows) - len(by_id),
        "unseen": len({name for name, _ in completed} - {name for name, _ in whole}),
        "debited_wrongly": int(not free),
    }


def words(calls: Sequence[Call]) -> dict[str, int]:
    """How often each answer was heard."""
    return dict(sorted(Counter(call.said for call in calls).items()))

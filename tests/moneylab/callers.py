"""Callers of a whole agent: what each saw of its call, and what the ledger must say of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.plane.seed import DEFAULT_PRICE


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as its caller saw it: `whole` when the answer ended as it should; `tokens` None: not counted."""

    request_id: str | None
    status: int | None
    tokens: int | None = 0
    whole: bool = False


def session_of(key: str, timeout_s: float = 30.0) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
    )


async def stream(
    session: aiohttp.ClientSession,
    ready: dict[str, Any],
    *,
    leave_after: int | None = None,
    begun: Callable[[], None] = lambda: None,
    **more: Any,
) -> Seen:
    """Streams one answer and calls `begun` at its first chunk; `leave_after` chunks the caller hangs up."""
    body = {
        "model": ready["endpoints"][0]["id"],
        "messages": [{"role": "user", "content": "say it"}],
        "stream": True,
        "max_tokens": 12,
        **more,
    }
    request_id, status, tokens = None, None, 0
    try:
        async with session.post(ready["base_url"] + "/chat/completions", json=body) as response:
            request_id, status = response.headers.get("x-request-id"), response.status
            if status != 200:
                await response.read()
                return Seen(request_id, status)
            if leave_after == 0:
                return Seen(request_id, status)
            chunks, done, failed = 0, False, False
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    done = True
                elif line.startswith(b"data: "):
                    chunks += 1
                    if chunks == 1:
                        begun()
                    event = json.loads(line[6:])
                    failed |= "error" in event
                    tokens += sum(bool(c["delta"].get("content")) for c in event.get("choices", ()))
                if chunks == leave_after:
                    return Seen(request_id, status, tokens)
            return Seen(request_id, status, tokens, done and not failed)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return Seen(request_id, status, tokens)


async def document(
    session: aiohttp.ClientSession, ready: dict[str, Any], path: str, body: dict[str, Any]
) -> Seen:
    """Asks for one JSON answer."""
    request_id, status = None, None
    try:
        asked = {"model": ready["endpoints"][0]["id"], **body}
        async with session.post(ready["base_url"] + path, json=asked) as response:
            request_id, status = response.headers.get("x-request-id"), response.status
            answer = await response.json()
            if status != 200:
                return Seen(request_id, status)
            return Seen(request_id, status, answer["usage"].get("completion_tokens", 0), True)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return Seen(request_id, status)


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger made of the calls. `lost`: seen whole and not completed once, with the tokens seen."""

    seen_whole: int
    lost: int
    double: int
    charged_wrongly: int
    outcomes: Counter[str]


def account(rows: list[dict[str, Any]], seen: list[Seen]) -> Account:
    """Compares; a call that its caller was to blame for has no row, and one that did not complete no debit."""
    by_id = {row["request_id"]: row for row in rows}
    whole = [each for each in seen if each.whole]
    right = [
        each
        for each in whole
        if (row := by_id.get(each.request_id or ""))
        and (row["outcome"], row["output_tokens"]) == ("completed", each.tokens)
    ]
    refused = [each for each in seen if 400 <= (each.status or 0) < 500 and each.request_id in by_id]
    wrong = [row for row in rows if row["debit_micro_usd"] != _due(row)]
    return Account(
        len(whole),
        len(whole) - len(right),
        len(rows) - len(by_id),
        len(refused) + len(wrong),
        Counter(row["outcome"] for row in rows),
    )


def _due(row: dict[str, Any]) -> int:
    """What the row costs at the embedded plane's price; the fake engine caches nothing."""
    if row["outcome"] != "completed":
        return 0
    return cost_micro_usd(
        TokenPrice(**DEFAULT_PRICE.model_dump()), row["input_tokens"], 0, row["output_tokens"]
    )

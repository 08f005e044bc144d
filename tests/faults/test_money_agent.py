"""The whole agent under attack, on the fake engine: what its callers saw against what the ledger says."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil
import pytest
from harness import Agent

from pareta_agent.control.heartbeat import HeartbeatSettings

pytestmark = pytest.mark.slow

Start = Callable[..., Agent]
LEASE_S = HeartbeatSettings().admit_for_s


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as its caller saw it: `whole` when the stream ended as it should."""

    request_id: str | None
    status: int | None
    tokens: int = 0
    whole: bool = False


async def stream(
    session: aiohttp.ClientSession, ready: dict[str, Any], *, leave_after: int | None = None
) -> Seen:
    """Streams one answer; `leave_after` chunks the caller hangs up."""
    body = {
        "model": ready["endpoints"][0]["id"],
        "messages": [{"role": "user", "content": "say it"}],
        "stream": True,
        "max_tokens": 12,
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
                    event = json.loads(line[6:])
                    choices = event.get("choices", ())
                    failed |= "error" in event
                    tokens += sum(bool(choice["delta"].get("content")) for choice in choices)
                if chunks == leave_after:
                    return Seen(request_id, status, tokens)
            return Seen(request_id, status, tokens, done and not failed)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return Seen(request_id, status, tokens)


def session_of(key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=30),
    )


def check(rows: list[dict[str, Any]], seen: list[Seen]) -> Counter[str]:
    """Nothing lost, nothing double, no debit without a completion; the outcomes' counts."""
    ids = [row["request_id"] for row in rows]
    assert len(ids) == len(set(ids))
    by_id = {row["request_id"]: row for row in rows}
    for each in seen:
        if each.whole:
            assert by_id[each.request_id]["outcome"] == "completed"
            assert by_id[each.request_id]["output_tokens"] == each.tokens
            assert by_id[each.request_id]["debit_micro_usd"] > 0
        elif each.status not in (None, 200):
            assert each.request_id not in by_id
    assert all(row["debit_micro_usd"] == 0 for row in rows if row["outcome"] != "completed")
    return Counter(row["outcome"] for row in rows)


async def load(ready: dict[str, Any], key: str, seconds: float, workers: int) -> list[Seen]:
    seen: list[Seen] = []
    end_s = time.monotonic() + seconds

    async def caller(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end_s:
            found = await stream(session, ready)
            seen.append(found)
            if found.status is None:
                return

    async with session_of(key) as session:
        await asyncio.gather(*(caller(session) for _ in range(workers)))
    return seen


async def test_kill_9_of_the_agent_loses_no_completion(start: Start) -> None:
    """Three deaths under 64 streams: what a caller saw whole is debited once, with the tokens it saw."""
    seen: list[Seen] = []
    key = ""
    for _ in range(3):
        agent = start("--slow-token", "0.01")
        ready = await asyncio.to_thread(agent.ready)
        key = ready["api_key"] or key
        loading = asyncio.create_task(load(ready, key, 30, 64))
        await asyncio.sleep(random.uniform(0.6, 1.5))
        agent.kill()
        seen += await loading
    agent = start("--slow-token", "0.01")
    await asyncio.to_thread(agent.ready)
    outcomes = check(agent.usage(), seen)
    assert sum(each.whole for each in seen) > 100
    assert outcomes["completed"] >= sum(each.whole for each in seen)
    assert outcomes["agent_crash"] > 0


async def test_a_caller_may_leave_at_any_chunk(start: Start) -> None:
    """Gone midway is a partial without a debit; gone after the last choice's end is a completion."""
    agent = start("--slow-token", "0.005")
    ready = await asyncio.to_thread(agent.ready)
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready, leave_after=chunk) for chunk in range(15)]
    await asyncio.sleep(0.5)
    outcomes = check(agent.usage(), seen)
    assert outcomes.total() == len(seen)
    assert set(outcomes) <= {"partial_client", "completed"}
    assert outcomes["partial_client"] >= 11


async def test_kill_9_of_the_engine_debits_nothing(start: Start) -> None:
    """Streams that its death cuts end as failed_engine, and none ends as if it were whole."""
    agent = start("--slow-token", "0.2")
    ready = await asyncio.to_thread(agent.ready)
    loading = asyncio.create_task(load(ready, ready["api_key"], 0.5, 16))
    await asyncio.sleep(0.8)
    engines = [
        child
        for child in psutil.Process(agent.process.pid).children(recursive=True)
        if any("fakes/engine.py" in part for part in child.cmdline())
    ]
    assert engines != []
    for engine in engines:
        os.kill(engine.pid, signal.SIGKILL)
    seen = await loading
    await asyncio.sleep(0.5)
    outcomes = check(agent.usage(), seen)
    assert [each for each in seen if each.whole] == []
    assert outcomes == {"failed_engine": 16}


async def test_an_agent_that_was_frozen_past_its_lease_admits_nothing_until_it_is_renewed(
    start: Start,
) -> None:
    """Stopped for longer than the lease, it wakes with a plane that does not answer yet: 503; then it serves again."""
    agent = start()
    ready = await asyncio.to_thread(agent.ready)
    family = psutil.Process(agent.process.pid)
    [plane] = [p for p in family.children() if "pareta_agent.plane" in p.cmdline()]
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready)]
        plane.suspend()
        family.suspend()
        await asyncio.sleep(LEASE_S + 1)
        family.resume()
        seen.append(await stream(session, ready))
        plane.resume()
        end_s = time.monotonic() + 30
        while seen[-1].status != 200 and time.monotonic() < end_s:
            await asyncio.sleep(0.5)
            seen.append(await stream(session, ready))
    assert (seen[0].whole, seen[1].status, seen[-1].whole) == (True, 503, True)
    assert check(agent.usage(), seen) == {"completed": 2}


async def test_a_balance_that_reaches_zero_is_not_overspent(start: Start) -> None:
    """A hundred callers, money for a few: some get their answer, the others a 402, and nobody goes below zero."""
    agent = start("--slow-token", "0.002")
    ready = await asyncio.to_thread(agent.ready)
    database = sqlite3.connect(agent.home / "plane" / "plane.db", timeout=10)
    database.execute("UPDATE orgs SET balance_micro_usd = 600")
    database.commit()
    async with session_of(ready["api_key"]) as session:
        seen = await asyncio.gather(*(stream(session, ready) for _ in range(100)))
        for _ in range(3):
            seen += await asyncio.gather(*(stream(session, ready) for _ in range(100)))
    outcomes = check(agent.usage(), seen)
    ((left,),) = database.execute("SELECT balance_micro_usd FROM orgs")
    database.close()
    assert Counter(each.status for each in seen).keys() == {200, 402}
    assert outcomes.keys() == {"completed"}
    assert left >= 0


async def test_a_clean_stop_closes_its_epoch(start: Start) -> None:
    """The chain's last entry says so and reaches the plane: an epoch without it ended by accident."""
    agent = start()
    ready = await asyncio.to_thread(agent.ready)
    async with session_of(ready["api_key"]) as session:
        assert (await stream(session, ready)).whole
    assert await asyncio.to_thread(agent.stop) == 0
    last = json.loads(agent.command("spool", "export").stdout.splitlines()[-1])
    [epoch] = [json.loads(line) for line in agent.command("spool", "ls", "--json").stdout.splitlines()]
    assert last["type"] == "ai.pareta.node.epoch.closed.v1"
    assert epoch["acked_seq"] == epoch["last_seq"] == last["sequence"]

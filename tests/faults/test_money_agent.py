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
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import aiohttp
import openai
import psutil
import pytest
from harness import Agent
from moneylab.callers import Seen, account, session_of, stream

from pareta_agent.control.heartbeat import HeartbeatSettings

pytestmark = pytest.mark.slow

Start = Callable[..., Agent]
Figures = Callable[..., None]
CALLERS = 64
LEASE_S = HeartbeatSettings().admit_for_s


def check(figures: Figures, rows: list[dict[str, Any]], seen: list[Seen]) -> Counter[str]:
    """Nothing lost, nothing double, no debit without a completion; the outcomes' counts."""
    found = account(rows, seen)
    assert (found.lost, found.charged_wrongly) == (0, 0)
    figures([str(each.request_id) for each in seen if each.whole], [row["request_id"] for row in rows])
    return found.outcomes


async def load(
    ready: dict[str, Any], key: str, seconds: float, workers: int, begun: Callable[[], None] = lambda: None
) -> list[Seen]:
    """Each worker asks once, and again while there is time and it finds the agent."""
    seen: list[Seen] = []
    end_s = time.monotonic() + seconds

    async def caller(session: aiohttp.ClientSession) -> None:
        while True:
            found = await stream(session, ready, begun=begun)
            seen.append(found)
            if found.status is None or time.monotonic() >= end_s:
                return

    async with session_of(key) as session:
        await asyncio.gather(*(caller(session) for _ in range(workers)))
    return seen


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.05)


def reached(begun: Sequence[None], least: int) -> bool:
    return len(begun) >= least


async def all_on_record(agent: Agent) -> None:
    await eventually(lambda: agent.status()["spool"]["open"] == 0)


async def test_kill_9_of_the_agent_loses_no_completion(start: Start, figures: Figures) -> None:
    """Three deaths under 64 streams: what a caller saw whole is debited once, with the tokens it saw."""
    seen: list[Seen] = []
    begun: list[None] = []
    key = ""
    least = 0
    for _ in range(3):
        least += CALLERS + 40  # so many begun: forty have had their answer
        agent = start("--slow-token", "0.01")
        ready = await asyncio.to_thread(agent.ready)
        key = ready["api_key"] or key
        loading = asyncio.create_task(load(ready, key, 60, CALLERS, lambda: begun.append(None)))
        await eventually(partial(reached, begun, least))
        await asyncio.sleep(random.uniform(0, 0.5))
        agent.kill()
        seen += await loading
    agent = start("--slow-token", "0.01")
    await asyncio.to_thread(agent.ready)
    outcomes = check(figures, agent.usage(), seen)
    assert sum(each.whole for each in seen) > 100
    assert outcomes["completed"] >= sum(each.whole for each in seen)
    assert outcomes["agent_crash"] > 0


async def test_a_caller_may_leave_at_any_chunk(start: Start, figures: Figures) -> None:
    """Gone midway is a partial without a debit; gone after the last choice's end is a completion."""
    agent = start("--slow-token", "0.02")
    ready = await asyncio.to_thread(agent.ready)
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready, leave_after=chunk, max_tokens=500) for chunk in range(12)]
        seen += [await stream(session, ready, leave_after=chunk) for chunk in range(12, 15)]
    await all_on_record(agent)
    outcomes = check(figures, agent.usage(), seen)
    assert outcomes.total() == len(seen)
    assert set(outcomes) <= {"partial_client", "completed"}
    assert outcomes["partial_client"] >= 12


async def test_kill_9_of_the_engine_debits_nothing(start: Start, figures: Figures) -> None:
    """Streams that its death cuts end as failed_engine, and none ends as if it were whole."""
    agent = start("--slow-token", "1")
    ready = await asyncio.to_thread(agent.ready)
    begun: list[None] = []
    loading = asyncio.create_task(load(ready, ready["api_key"], 0, 16, lambda: begun.append(None)))
    await eventually(partial(reached, begun, 16))
    engines = engines_of(agent)
    assert engines != []
    for engine in engines:
        os.kill(engine.pid, signal.SIGKILL)
    seen = await loading
    await all_on_record(agent)
    outcomes = check(figures, agent.usage(), seen)
    assert [each for each in seen if each.whole] == []
    assert outcomes == {"failed_engine": 16}


async def test_an_agent_that_was_frozen_past_its_lease_admits_nothing_until_it_is_renewed(
    start: Start, figures: Figures
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
        end_s = time.monotonic() + 120
        while seen[-1].status != 200 and time.monotonic() < end_s:
            await asyncio.sleep(0.5)
            seen.append(await stream(session, ready))
    assert (seen[0].whole, seen[1].status, seen[-1].whole) == (True, 503, True)
    assert check(figures, agent.usage(), seen) == {"completed": 2}


async def test_a_balance_that_reaches_zero_is_not_overspent(start: Start, figures: Figures) -> None:
    """A hundred callers, money for a few: some get their answer, the others a 402, and nobody goes below zero."""
    agent = start("--slow-token", "0.002")
    ready = await asyncio.to_thread(agent.ready)
    database = sqlite3.connect(agent.home / "plane" / "plane.db", timeout=120)
    database.execute("UPDATE orgs SET balance_micro_usd = 600")
    database.commit()
    async with session_of(ready["api_key"]) as session:
        seen = await asyncio.gather(*(stream(session, ready) for _ in range(100)))
        for _ in range(3):
            seen += await asyncio.gather(*(stream(session, ready) for _ in range(100)))
    outcomes = check(figures, agent.usage(), seen)
    ((left,),) = database.execute("SELECT balance_micro_usd FROM orgs")
    database.close()
    assert Counter(each.status for each in seen).keys() == {200, 402}
    assert outcomes.keys() == {"completed"}
    assert left >= 0


async def test_a_clean_stop_closes_its_epoch(start: Start, figures: Figures) -> None:
    """The chain's last entry says so and reaches the plane: an epoch without it ended by accident."""
    agent = start()
    ready = await asyncio.to_thread(agent.ready)
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready)]
    assert await asyncio.to_thread(agent.stop) == 0
    assert check(figures, agent.usage(), seen) == {"completed": 1}
    last = json.loads(agent.command("spool", "export").stdout.splitlines()[-1])
    [epoch] = [json.loads(line) for line in agent.command("spool", "ls", "--json").stdout.splitlines()]
    assert last["type"] == "ai.pareta.node.epoch.closed.v1"
    assert epoch["acked_seq"] == epoch["last_seq"] == last["sequence"]


async def test_an_engine_that_hangs_debits_nothing(start: Start, figures: Figures) -> None:
    """Frozen midway, it answers no more: its streams end as failed_timeout, and none as if it were whole."""
    agent = start("--slow-token", "1", PARETA_FRONT_REQUEST_TIMEOUT_S="5")
    ready = await asyncio.to_thread(agent.ready)
    begun: list[None] = []
    loading = asyncio.create_task(load(ready, ready["api_key"], 0, 16, lambda: begun.append(None)))
    await eventually(partial(reached, begun, 16))
    for engine in engines_of(agent):
        engine.suspend()
    seen = await loading
    for engine in engines_of(agent):
        engine.resume()
    await all_on_record(agent)
    assert [each for each in seen if each.whole] == []
    assert check(figures, agent.usage(), seen) == {"failed_timeout": 16}


async def test_a_client_that_retries_by_itself_pays_once(start: Start, figures: Figures) -> None:
    """The engine hangs up on the first try: it is a record of its own without a debit, the second one is the answer."""
    agent = start("--hang-up-next", flags=("--no-canary",))
    ready = await asyncio.to_thread(agent.ready)
    with openai.OpenAI(base_url=ready["base_url"], api_key=ready["api_key"], max_retries=3) as client:
        raw = await asyncio.to_thread(
            client.chat.completions.with_raw_response.create,
            model=ready["endpoints"][0]["id"],
            messages=[{"role": "user", "content": "say it"}],
            max_tokens=5,
        )
    seen = [Seen(raw.headers["x-request-id"], 200, 5, whole=True)]
    assert raw.retries_taken == 1
    assert check(figures, agent.usage(), seen) == {"failed_engine": 1, "completed": 1}


async def test_a_second_agent_on_the_same_spool_is_refused(start: Start, figures: Figures) -> None:
    """It names the first one's pid and ends; the first goes on as if nothing had been."""
    agent = start()
    ready = await asyncio.to_thread(agent.ready)
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready)]
        second = Agent(agent.home, settings={k: v for k, v in agent.env.items() if k.startswith("PARETA_E")})
        assert await asyncio.to_thread(second.stop, signal.SIGCONT) == 4
        assert f"pid {agent.process.pid}" in second.stderr()
        seen.append(await stream(session, ready))
    assert check(figures, agent.usage(), seen) == {"completed": 2}


async def test_what_a_caller_forges_moves_no_count(start: Start, figures: Figures) -> None:
    """Ids, usage, transfer parameters and the like, in headers and body: the row is the same as without them."""
    agent = start()
    ready = await asyncio.to_thread(agent.ready)
    forged = {
        "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        "kv_transfer_params": {"do_remote_prefill": True},
        "stream_options": {"include_usage": False, "continuous_usage_stats": False},
        "request_id": "forged",
        "cache_salt": "forged",
        "priority": -1,
        "user": "org_other",
    }
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready)]
        session.headers.update({"X-Request-Id": seen[0].request_id, "X-Pareta-Org": "org_other"})
        seen.append(await stream(session, ready, **forged))
    rows = agent.usage()
    assert check(figures, rows, seen) == {"completed": 2}
    counts = [{k: v for k, v in row.items() if k not in ("request_id", "sequence")} for row in rows]
    assert counts[0] == counts[1]


async def test_a_spool_that_fills_warns_and_then_shuts_the_door(start: Start, figures: Figures) -> None:
    """A plane that takes nothing: a word at 80 %, at 95 % a 503 that says when; with the plane back it opens again."""
    agent = start(PARETA_SPOOL_MAX_BYTES=str(2**20))
    ready = await asyncio.to_thread(agent.ready)
    [plane] = [p for p in psutil.Process(agent.process.pid).children() if "pareta_agent.plane" in p.cmdline()]
    async with session_of(ready["api_key"]) as session:
        seen = [await stream(session, ready)]
        plane.suspend()
        while (again := await stream(session, ready)).status != 200:  # it had just been told of the new key
            plane.resume()
            seen += [again, await stream(session, ready)]
            plane.suspend()
        seen.append(again)
        while seen[-1].status == 200:
            quickly = await used_ratio(session, ready) < 0.5
            at_once = range(32 if quickly else 4)
            seen += await asyncio.gather(*(stream(session, ready, max_tokens=1) for _ in at_once))
            await asyncio.sleep(0.25 if quickly else 0.06)  # the node looks at its spool once a second
        async with session.post(ready["base_url"] + "/completions", json=short(ready)) as shut:
            assert (shut.status, (await shut.json())["error"]["code"]) == (503, "metering_unavailable")
            assert int(shut.headers["retry-after"]) > 0
        plane.resume()
        end_s = time.monotonic() + 120
        while (seen[-1].status != 200) and time.monotonic() < end_s:
            await asyncio.sleep(0.2)
            seen.append(await stream(session, ready))
    await asyncio.to_thread(agent.wait_for, "spool_has_room")
    told = [e["event"] for e in agent.events if e["event"].startswith("spool_")]
    assert told[:2] == ["spool_nearly_full", "spool_full"]
    assert told[-1] == "spool_has_room"
    assert set(check(figures, agent.usage(), seen)) == {"completed"}


def engines_of(agent: Agent) -> list[psutil.Process]:
    family = psutil.Process(agent.process.pid).children(recursive=True)
    return [child for child in family if any("fakes/engine.py" in part for part in child.cmdline())]


async def used_ratio(session: aiohttp.ClientSession, ready: dict[str, Any]) -> float:
    async with session.get(ready["metrics_url"]) as response:
        text = await response.text()
    return float(text.partition("\npareta_spool_used_ratio ")[2].partition("\n")[0])


def short(ready: dict[str, Any]) -> dict[str, Any]:
    return {"model": ready["endpoints"][0]["id"], "prompt": "one", "max_tokens": 1}

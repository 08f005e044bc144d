"""A whole node whose callers are answered by two more processes, under TLS: its promises are one process's.

The tests share the node and take it as they find it; the first has its money, the last ends it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from fakes.certificates import Certificate, make_certificate
from harness import Agent, fake_engine, processes_of
from moneylab.callers import Seen, account, stream

pytestmark = pytest.mark.slow

BALANCE_MICRO_USD = 300
CONNECTIONS = 100
CALLERS = 64


@dataclass(frozen=True)
class Node:
    """The agent, what it said when it was ready, the files of its certificate and those that may replace them.

    `trusting` believes both certificates, whichever is in the files by now.
    """

    agent: Agent
    ready: dict[str, Any]
    files: Certificate
    others: Certificate
    trusting: ssl.SSLContext

    def session(self, key: str = "") -> aiohttp.ClientSession:
        """A connection for each call, so that both workers are met."""
        return aiohttp.ClientSession(
            headers={"authorization": f"Bearer {key or self.ready['api_key']}"},
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=self.trusting),
            timeout=aiohttp.ClientTimeout(total=120),
        )

    def call(self, **more: Any) -> tuple[str, dict[str, Any]]:
        """Where a stream is asked for, and with what."""
        asked = {"model": self.ready["endpoints"][0]["id"], "stream": True, **more}
        message = {"role": "user", "content": "Go on."}
        return self.ready["base_url"] + "/chat/completions", {**asked, "messages": [message]}

    async def calls(self, count: int, key: str = "", **more: Any) -> list[Seen]:
        async with self.session(key) as session:
            return await asyncio.gather(*(stream(session, self.ready, **more) for _ in range(count)))

    async def key(self, *limits: str) -> dict[str, Any]:
        made = await asyncio.to_thread(self.agent.command, "keys", "create", "--json", *limits)
        found: dict[str, Any] = json.loads(made.stdout)
        return found

    async def workers(self) -> list[dict[str, Any]]:
        told = await asyncio.to_thread(self.agent.command, "status", "--json")
        found: list[dict[str, Any]] = json.loads(told.stdout)["front_workers"]
        return found

    def pay(self, micro_usd: int) -> int:
        """Sets the balance; what it was."""
        with closing(sqlite3.connect(self.agent.home / "plane" / "plane.db", timeout=120)) as database:
            ((before,),) = database.execute("SELECT balance_micro_usd FROM orgs")
            database.execute("UPDATE orgs SET balance_micro_usd = ?", (micro_usd,))
            database.commit()
        return int(before)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    place = tmp_path_factory.mktemp("node")
    others = make_certificate(tmp_path_factory.mktemp("others"))
    files = make_certificate(tmp_path_factory.mktemp("files"))
    trusting = ssl.create_default_context(cafile=files.pem)
    trusting.load_verify_locations(others.pem)
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine("--slow-token", "0.02"),
        "PARETA_FRONT_TLS_CERT_FILE": str(files.pem),
        "PARETA_FRONT_TLS_KEY_FILE": str(files.key),
        "PARETA_FRONT_MAX_CONNECTIONS_PER_ADDRESS": str(CONNECTIONS),
    }
    flags = ("--front-workers", "2", "--drain-timeout", "120")
    with Agent(place / "home", *flags, settings=settings) as agent:
        yield Node(agent, agent.ready(), files, others, trusting)
    assert processes_of(place / "home") == []


async def test_one_balance_is_spent_by_both(node: Node) -> None:
    """64 callers, money for some: those are answered and debited once each, the others get a 402, nothing is owed."""
    before = node.pay(BALANCE_MICRO_USD)
    seen: list[Seen] = []
    async with asyncio.timeout(120):
        while {each.status for each in seen[-CALLERS:]} != {402}:
            seen += await node.calls(CALLERS)
    assert Counter(each.status for each in seen).keys() == {200, 402}
    await asyncio.to_thread(node.agent.command, "spool", "flush")
    found = account(await asyncio.to_thread(node.agent.usage), seen)
    assert (found.lost, found.double, found.charged_wrongly) == (0, 0, 0)
    assert found.outcomes == {"completed": found.seen_whole}
    assert 0 <= node.pay(before) <= BALANCE_MICRO_USD
    async with asyncio.timeout(120):
        while (await node.calls(1))[0].status != 200:
            await asyncio.sleep(0.2)


async def test_limits_of_a_key_hold_for_both(node: Node) -> None:
    """So many at once and so many a minute, wherever they came in."""
    async with node.session((await node.key("--concurrency", "3"))["api_key"]) as session:
        url, body = node.call(max_tokens=1000)
        held = await asyncio.gather(*(session.post(url, json=body) for _ in range(24)))
        assert Counter(each.status for each in held) == {200: 3, 429: 21}
        for each in held:
            each.close()
    key = (await node.key("--requests-per-minute", "10"))["api_key"]
    began_s = time.monotonic()
    seen = await node.calls(30, key, max_tokens=1)
    refilled = int((time.monotonic() - began_s) / 6)
    assert 10 <= Counter(each.status for each in seen)[200] <= 10 + refilled


async def test_connections_are_counted_for_both(node: Node) -> None:
    """Of one address as many as it may have; each more is told so and ends."""
    context, port = node.trusting, int(node.ready["base_url"].split(":")[2].split("/")[0])
    async with asyncio.timeout(120):
        while sum(each["connections"] for each in await node.workers()):
            await asyncio.sleep(0.1)
        opened = [asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(CONNECTIONS + 20)]
        pairs = await asyncio.gather(*opened)
        reads = {asyncio.create_task(reader.read()) for reader, _ in pairs}
        ended: set[asyncio.Task[bytes]] = set()
        while len(ended) < 20:
            now, reads = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            ended |= now
        workers = await node.workers()
        while sum(each["connections"] for each in workers) != CONNECTIONS:
            await asyncio.sleep(0.1)
            workers = await node.workers()
    assert [each.result().split(b" ", 2)[1] for each in ended] == [b"429"] * 20
    assert all(each["connections"] for each in workers)
    for _, writer in pairs:
        writer.transport.abort()
    await asyncio.wait(reads)


async def test_a_revoked_key_is_unknown_to_both_within_a_heartbeat(node: Node) -> None:
    """Both had believed it; each takes the new revision when it hears of it, and neither goes back."""
    made = await node.key()
    assert {each.status for each in await node.calls(20, made["api_key"], max_tokens=1)} == {200}
    await asyncio.to_thread(node.agent.command, "keys", "revoke", made["id"])
    async with asyncio.timeout(120):
        while {each.status for each in await node.calls(20, made["api_key"], max_tokens=1)} != {401}:
            await asyncio.sleep(0.1)
    assert {each.status for each in await node.calls(20, made["api_key"], max_tokens=1)} == {401}


async def test_a_new_certificate_is_shown_by_both(node: Node) -> None:
    """To every new connection, without a restart; a stream that is open goes on."""
    context, port = node.trusting, int(node.ready["base_url"].split(":")[2].split("/")[0])
    wanted = ssl.PEM_cert_to_DER_cert(node.others.pem.read_text())
    async with node.session() as session:
        url, body = node.call(max_tokens=100)
        streams = await asyncio.gather(*(session.post(url, json=body) for _ in range(8)))
        shutil.copy(node.others.key, node.files.key)
        shutil.copy(node.others.pem, node.files.pem)
        node.agent.process.send_signal(signal.SIGHUP)
        in_a_row = 0
        async with asyncio.timeout(120):
            while in_a_row < 20:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                in_a_row = in_a_row + 1 if shown == wanted else 0
                writer.transport.abort()
        answers = await asyncio.gather(*(each.text() for each in streams))
    assert all(answer.endswith("data: [DONE]\n\n") for answer in answers)
    assert all(each["restarts"] == 0 for each in await node.workers())


async def test_a_stop_lets_both_finish(node: Node) -> None:
    """SIGTERM: the streams of both end properly, whoever comes now is refused, and the exit is clean."""
    async with node.session() as session:
        url, body = node.call(max_tokens=400)
        streams = await asyncio.gather(*(session.post(url, json=body) for _ in range(24)))
        node.agent.process.send_signal(signal.SIGTERM)
        late = set[int | None]()
        async with asyncio.timeout(120):
            while not late & {503, None}:
                late |= {each.status for each in await node.calls(2, max_tokens=1)}
        answers = await asyncio.gather(*(each.text() for each in streams))
    assert all(answer.endswith("data: [DONE]\n\n") for answer in answers)
    assert {answer.count('"content":" word"') for answer in answers} == {399}
    assert await asyncio.to_thread(node.agent.process.wait, 120) == 0

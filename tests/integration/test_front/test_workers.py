"""Two workers before one meter: what is counted is counted once for both, and no caller can tell which one answers."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.slow
KEY = "pareta_sk_" + "a" * 32
BODY = b'{"model":"ep_x","messages":[{"role":"user","content":"Go on."}]}'
STREAM = BODY[:-1] + b',"stream":true}'


@pytest.fixture
def workers() -> int:
    return 2


def said(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


async def test_calls_of_all_workers_are_counted_once(rig: Any) -> None:
    """Answers, records, limits, replays, refusals and the metrics of both, over a connection each."""
    await rig.engine()
    answers = await asyncio.gather(*(rig.raw(rig.post(BODY if i % 2 else STREAM)) for i in range(24)))
    assert {said(answer)[0] for answer in answers} == {200}
    assert len({record.admission.request_id for record in rig.spool.records}) == 24
    assert {record.outcome for record in rig.spool.records} == {"completed"}
    assert all(worker["restarts"] == 0 for worker in rig.front.workers())

    limited = await asyncio.gather(*(rig.raw(rig.post(BODY, key="pareta_sk_slow")) for _ in range(8)))
    assert sorted(said(answer)[0] for answer in limited).count(200) <= 2
    assert all(b"x-ratelimit-limit-requests: 2" in answer for answer in limited)

    once = rig.post(BODY, extra="idempotency-key: same\r\n")
    first = said(await rig.raw(once))
    again = [await rig.raw(once) for _ in range(8)]
    assert [said(each) for each in again] == [first] * 8
    assert all(b"idempotent-replayed: true" in each for each in again)

    assert said(await rig.raw(rig.post(BODY, key="pareta_sk_revoked")))[0] == 401
    assert said(await rig.raw(rig.post(BODY, path="/v1/chat/completions//")))[0] == 404
    models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\nconnection: close\r\n\r\n"
    assert orjson.loads(said(await rig.raw(models % KEY.encode()))[1])["data"][0]["id"] == "ep_x"
    metrics = said(await rig.raw(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))[1]
    assert b"pareta_front_workers 2.0" in metrics
    done = len(rig.spool.records)
    assert (
        sum(
            float(line.rpartition(b" ")[2])
            for line in metrics.splitlines()
            if line.startswith(b"pareta_requests_total{") and b'outcome="completed"' in line
        )
        == done
    )
    await rig.until(lambda: dict(rig.front.loads()) == {})


async def test_idle_connections_change_hands(start_rig: Any) -> None:
    """From the workers of one front to those of another: each is asked on as if nothing had been."""
    rig, heir = await start_rig(), await start_rig()
    await rig.engine()
    heir.endpoints.update(rig.endpoints)
    request = rig.post(BODY).replace(b"connection: close\r\n", b"")
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        callers = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(24)]
        for _, writer in callers:
            stack.callback(writer.close)
        assert [await ask(*caller, request) for caller in callers] == [200] * 24
        assert all(each["connections"] for each in rig.front.workers())
        assert await rig.front.pass_on(heir.front.welcome, 120.0) == 0
        assert [await ask(*caller, request) for caller in callers] == [200] * 24
        connections = [each["connections"] for each in heir.front.workers()]
    assert sum(connections) == 24
    assert all(connections)
    assert (len(rig.spool.records), len(heir.spool.records)) == (24, 24)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Asks on a connection that stays; the status of an answer that came whole."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
    await reader.readexactly(int(fields[b"content-length"]))
    return int(head.split(b" ")[1])


async def test_one_who_does_not_read_is_alone_in_it(rig: Any) -> None:
    """Its answer waits for it, whole; meanwhile others are answered by both workers."""
    await rig.engine("--tokens", "60000")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**12)
    writer.write(rig.post(STREAM))
    await reader.readuntil(b"data: ")
    rig.engines[0].flags.tokens = 4
    answers = await asyncio.gather(*(rig.raw(rig.post(STREAM)) for _ in range(24)))
    assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
    assert rig.front.in_flight == 1
    async with asyncio.timeout(120):
        late = await reader.read()
    writer.close()
    assert late.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert late.count(b'"content":" word"') == 60_000 - 1
    await rig.until(lambda: rig.front.in_flight == 0)
    assert {record.outcome for record in rig.spool.records} == {"completed"}


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open nothing meanwhile, and so start nobody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_worker_that_cannot_be_started_is_tried_again(rig: Any) -> None:
    """Its place is kept while there is no descriptor for it, and filled once there is."""
    await rig.engine()
    with no_descriptors():
        os.kill(rig.front.workers()[0]["pid"], signal.SIGKILL)
        await rig.until(lambda: sum(each.name == "front_worker_not_started" for each in rig.events) == 2)
    await rig.until(lambda: [each["state"] for each in rig.front.workers()] == ["up", "up"])
    assert rig.front.workers()[0]["restarts"] == 3
    answers = await asyncio.gather(*(rig.raw(rig.post(BODY)) for _ in range(24)))
    assert {said(answer)[0] for answer in answers} == {200}


async def give_up(rig: Any, number: int) -> None:
    """Kills whoever sits there until nobody does any more."""
    async with asyncio.timeout(120):
        while (worker := rig.front.workers()[number])["state"] != "given up":
            if worker["pid"] is not None:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(worker["pid"], signal.SIGKILL)
            await asyncio.sleep(0.05)


async def test_workers_that_never_live_are_given_up(rig: Any) -> None:
    """Each of its callers is answered by the other one, at last by the main process; health and events say so.

    The first cannot even be started, nor be told to the other one for want of a descriptor."""
    await rig.engine()
    ready = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert orjson.loads(said(await rig.raw(ready))[1])["status"] == "ok"
    for left, trouble in ((1, no_descriptors()), (0, nullcontext())):
        with trouble:
            await give_up(rig, 1 - left)
        answers = await asyncio.gather(*(rig.raw(rig.post(BODY)) for _ in range(24)))
        assert {said(answer)[0] for answer in answers} == {200}
        status, health = said(await rig.raw(ready))
        assert (status, orjson.loads(health)["status"]) == (200, "degraded")
        assert len(orjson.loads(health)["reasons"]) == 2 - left
    given_up = [event.fields["worker"] for event in rig.events if event.name == "front_worker_given_up"]
    assert given_up == [0, 1]
    first, second = orjson.loads(health)["reasons"]
    assert "could not be started (Too many open files)" in first
    assert "it ended" in second
    assert len(rig.spool.records) == 48

"""Several replicas of an endpoint: one that is lost before it spoke, one that knows a prompt, all of them full."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

ASK = {"model": "ep_x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def body(**more: object) -> bytes:
    return json.dumps({**ASK, **more}).encode()


def status_of(response: bytes) -> int:
    return int(response.split()[1])


async def refuse(rig, index: int) -> None:
    """The replica's socket is there and nobody listens."""
    rig.servers[index].close()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("lost", ["refused", "--hang-up-next", "--cut-after-head"])
async def test_a_replica_that_is_lost_before_it_spoke_is_replaced(rig, lost, streamed):
    """The caller notices nothing; one record, which says that it was tried again."""
    if lost == "--cut-after-head" and not streamed:
        pytest.skip("a document has its head with its body")
    await rig.engine(*([lost] if lost != "refused" else []))
    await rig.engine(index=1)
    if lost == "refused":
        await refuse(rig, 0)
    assert status_of(await rig.raw(rig.post(body(stream=streamed)))) == 200
    (record,) = rig.spool.records
    assert (record.outcome.value, record.retry_count, record.replica) == ("completed", 1, "ep_x/1")
    assert len(rig.spool.admitted) == 1
    assert dict(rig.front._admission.load) == {}


async def test_it_is_tried_elsewhere_once(rig):
    """Two that hang up: an error, one record, and the third was never asked."""
    for index in range(2):
        await rig.engine("--hang-up-next", index=index)
    await rig.engine(index=2)
    assert status_of(await rig.raw(rig.post(body()))) == 503
    (record,) = rig.spool.records
    assert (record.outcome.value, record.retry_count) == ("failed_engine", 1)
    assert not rig.engines[2].heard


async def test_a_stream_that_has_begun_is_not_tried_again(rig):
    """Its caller has heard something that another replica would not go on from."""
    await rig.engine("--cut-mid-stream")
    await rig.engine(index=1)
    assert b'{"error":' in await rig.raw(rig.post(body(stream=True)))
    assert [(r.outcome.value, r.retry_count) for r in rig.spool.records] == [("failed_engine", 0)]
    assert not rig.engines[1].heard


async def test_an_only_replica_is_not_waited_for(rig):
    """Nowhere else to go: the 503 as ever."""
    await rig.engine()
    await refuse(rig, 0)
    assert status_of(await rig.raw(rig.post(body()))) == 503
    assert rig.spool.records[0].retry_count == 0


async def test_a_prompt_goes_where_its_beginning_went(rig):
    """First read while the other was busy, it stays there when both are free; a short one goes to the first."""
    for index in range(2):
        await rig.engine(index=index)
    rig.engines[0].hold()
    first = asyncio.create_task(rig.raw(rig.post(body(max_tokens=10))))
    await rig.until(lambda: len(rig.spool.admitted) == 1)
    long, longer = (
        body(messages=[{"role": "user", "content": "x" * 2000 + more}]) for more in ("", "and more")
    )
    await rig.raw(rig.post(long))
    rig.engines[0].let_go()
    await first
    for request in (longer, body(), long):
        await rig.raw(rig.post(request))
    taken = [record.replica for record in rig.spool.records]
    assert taken == ["ep_x/1", "ep_x/0", "ep_x/1", "ep_x/0", "ep_x/1"]


async def test_an_endpoint_takes_so_many_for_each_seat(start_rig):
    """The next is a 429 which says when, by what calls have taken here."""
    rig = await start_rig(in_flight_per_seat=2, min_in_flight_per_replica=1)
    await rig.engine()
    rig.engines[0].hold()
    view = rig.endpoints["ep_x"]
    rig.endpoint(replicas=(replace(view.replicas[0], seats=1),))
    calls = [asyncio.create_task(rig.raw(rig.post(body()))) for _ in range(2)]
    await rig.until(lambda: len(rig.spool.admitted) == 2)
    refused = await rig.raw(rig.post(body()))
    assert (status_of(refused), b"endpoint_busy" in refused) == (429, True)
    assert b"retry-after: 1\r\n" in refused
    rig.engines[0].let_go()
    assert [status_of(await call) for call in calls] == [200, 200]
    rig.front._admission.pace["ep_x/0"] = 9.0
    rig.engines[0].hold()
    calls = [asyncio.create_task(rig.raw(rig.post(body()))) for _ in range(2)]
    await rig.until(lambda: len(rig.spool.admitted) == 4)
    assert b"retry-after: 5\r\n" in await rig.raw(rig.post(body()))
    rig.engines[0].let_go()
    await asyncio.gather(*calls)

"""The auditor over a real front and engines that count right, and one that says more than it counted."""

from __future__ import annotations

import asyncio

import orjson

from pareta_agent.clock import SystemClock
from pareta_agent.contract.fleet_view import FleetView
from pareta_agent.contract.usage_record import Tokens
from pareta_agent.node.status.usage_audit import Auditor
from pareta_agent.telemetry.events import Event


class Fleet:
    """What the auditor asks of one."""

    def __init__(self, rig) -> None:
        self._rig = rig

    def view(self) -> FleetView:
        return FleetView(self._rig.endpoints)


def auditor(rig) -> Auditor:
    return Auditor(Fleet(rig), rig.audit, rig.metrics, SystemClock(), rig.events.append)


def body(**more) -> bytes:
    asked = {"model": "ep_x", "messages": [{"role": "user", "content": "one two"}], "max_tokens": 6}
    return orjson.dumps(asked | more)


async def mixed(rig) -> None:
    """Streams and documents, several answers, a refusal."""
    asked = [body(), body(n=3), body(stream=True), body(stream=True, n=2), body(max_tokens=10**9)]
    for answer in await asyncio.gather(*(rig.raw(rig.post(each)) for each in asked)):
        assert answer.startswith(b"HTTP/1.1 ")


async def leave_midway(rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(rig.post(body(stream=True, max_tokens=500)))
    await reader.readuntil(b"word")
    writer.close()
    await rig.until(lambda: rig.spool.records and rig.spool.records[-1].outcome == "partial_client")


def shown(rig, series: str) -> list[float]:
    lines = [line for line in rig.metrics.render().decode().splitlines() if line.startswith(series + "{")]
    return [float(line.rsplit(" ", 1)[1]) for line in lines]


def told(rig) -> list[Event]:
    return [event for event in rig.events if isinstance(event, Event) and event.name == "usage_drifted"]


async def test_records_add_up_to_what_the_engine_counted(rig):
    """After mixed calls there is no drift, and nothing is said."""
    await rig.engine()
    audits = auditor(rig)
    await audits.look()
    await mixed(rig)
    for _ in range(2):
        await audits.look()
    assert shown(rig, "pareta_usage_drift_tokens") == [0.0, 0.0]
    assert told(rig) == []


async def test_a_caller_who_left_explains_a_drift(rig):
    """Its prompt was never told to us: the event names the request, nothing is unexplained."""
    await rig.engine("--slow-token", "0.002")
    audits = auditor(rig)
    await audits.look()
    await mixed(rig)
    await leave_midway(rig)
    for _ in range(3):
        await audits.look()
    (event,) = told(rig)
    request_id = rig.spool.records[-1].admission.request_id
    assert (event.level, event.fields["input_tokens"]) == ("info", 2)
    assert event.fields["requests"] == f"{request_id} partial_client chunk_count"
    assert shown(rig, "pareta_usage_drift_unexplained_tokens") == [0.0, 0.0]


async def test_a_refusal_after_the_work_explains_its_tokens(rig):
    """vLLM answers 400 to an answer that it cannot form: the record knows no tokens, and no alert comes of it."""
    await rig.engine("--refuse-late")
    audits = auditor(rig)
    await audits.look()
    answer = await rig.raw(rig.post(body()))
    for _ in range(3):
        await audits.look()
    record = rig.spool.records[-1]
    assert (record.outcome, record.tokens, record.usage_source) == ("failed_engine", Tokens(), "none")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert (b"engine_failed" in answer, b"Anthropic" in answer) == (True, False)
    assert shown(rig, "pareta_usage_drift_tokens") == [2.0, 6.0]
    assert shown(rig, "pareta_usage_drift_unexplained_tokens") == [0.0, 0.0]
    (event,) = told(rig)
    assert event.fields["requests"] == f"{record.admission.request_id} failed_engine none"


async def test_a_refusal_before_the_work_explains_nothing(rig):
    """One that the engine's checks make: tokens beyond the records stay an alarm."""
    await rig.engine()
    audits = auditor(rig)
    await audits.look()
    assert b"invalid_value" in await rig.raw(rig.post(body(max_tokens=10**9)))
    rig.engines[-1].generation_tokens += 1
    for _ in range(2):
        await audits.look()
    assert shown(rig, "pareta_usage_drift_unexplained_tokens") == [0.0, 1.0]


async def test_an_engine_that_says_more_than_it_counted_is_found_out(rig):
    """One plausible token too many in each answer: an error, and the series that the alert reads."""
    await rig.engine("--overstate", "1")
    audits = auditor(rig)
    await audits.look()
    await mixed(rig)
    assert {record.usage_source for record in rig.spool.records} == {"engine_final", "none"}
    for _ in range(2):
        await audits.look()
    (event,) = told(rig)
    assert (event.level, event.fields["unexplained_output_tokens"]) == ("error", -4)
    assert shown(rig, "pareta_usage_drift_unexplained_tokens") == [0.0, -4.0]


async def test_an_engine_that_is_away_is_no_drift(rig):
    """Counters that can't be read say nothing."""
    await rig.engine()
    audits = auditor(rig)
    await audits.look()
    await mixed(rig)
    rig.servers[0].close()
    (rig.sockets / "ep_x-0.sock").unlink(missing_ok=True)
    await audits.look()
    assert shown(rig, "pareta_usage_drift_tokens") == []

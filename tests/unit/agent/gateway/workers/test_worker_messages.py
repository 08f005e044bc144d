"""The messages between the main process and its workers: the bytes that two releases share."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from message_values import ADMISSION, FLEET, RECORD

from pareta_agent.contract.api_errors import Problem
from pareta_agent.contract.grant import GrantLimits, KeyGrant
from pareta_agent.contract.usage_record import Outcome, UsageRecord
from pareta_agent.gateway.ports import IdempotencyKey
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.gateway.worker_main import Worker
from pareta_agent.gateway.workers import worker_messages
from pareta_agent.gateway.workers.main_side import WorkerSession
from pareta_agent.gateway.workers.worker_values import RequestSummary, TerminalRecord
from pareta_agent.ipc.channel import Channel
from pareta_agent.ipc.message_table import MessageTable

GOLDEN = json.loads((Path(__file__).parents[4] / "data/worker_messages.json").read_text())
GRANT = KeyGrant(
    "org_a", "key_a", "active", frozenset({"ep_b", "ep_a"}), 30.0, GrantLimits(60, 1000, 4), "delivered"
)
FINGERPRINT = "6dec241337403a9198e930585fab72f3"
LONG = RequestSummary("ep_a", "word " * 120, 700, True, 2, 3, 64, True, False, True, FINGERPRINT)
SHORT = RequestSummary("nowhere", "", 7, False, 1, 1, None, True, False, False, None)
SETTINGS = GatewaySettings(hosts=("a", "b"), max_uploads_bytes=256 * 2**20)

TO_MAIN: list[Any] = [
    worker_messages.ApplyForAdmission(
        "req_1", "/v1/completions", GRANT, LONG, IdempotencyKey("once", b"\x01\x02")
    ),
    worker_messages.ApplyForAdmission(
        "req_2", "/v1/completions", replace(GRANT, endpoints=None), SHORT, None
    ),
    worker_messages.ConnectionOpened(1, "::1"),
    worker_messages.ConnectionClosed(1),
    worker_messages.WithdrawApplication("req_2"),
    worker_messages.LookUpKey(2, "ab" * 32),
    worker_messages.EventEmitted("thing_done", "warning", {"a": 1, "p": "/x"}),
    worker_messages.SettleRequest("req_1", TerminalRecord.of(RECORD), 200, False, '{"id":"é"}'),
    worker_messages.SettleRequest(
        "req_1", TerminalRecord.of(UsageRecord(ADMISSION, Outcome.PARTIAL_CLIENT, "none")), 499, True, None
    ),
    worker_messages.EngineLost("ep_a/0", 3, FINGERPRINT),
    worker_messages.RequestMoved("req_1", "ep_a/0", 3),
    worker_messages.MetricsCounted([[["m", ["l"], 2.0]], [["h", ["l"], [0, 1], 0.5]]]),
    worker_messages.WorkerUp(),
    worker_messages.WorkerAnswer(4, None),
    worker_messages.WorkerAnswer(5, True),
    worker_messages.WorkerAnswer(6, 3),
    worker_messages.ConnectionReturned(),
    worker_messages.TunnelOpened(),
]
TO_WORKER: list[Any] = [
    worker_messages.FleetChanged(FLEET),
    worker_messages.QuarantineActive(True),
    worker_messages.RequestAdmitted(ADMISSION, "ep_a/0", 3, {"x-a": "b"}),
    worker_messages.RequestRefused("req_1", Problem("endpoint_busy", retry_after_s=3), "ep_a", {"x-a": "b"}),
    worker_messages.ReplayAnswer("req_1", "req_0", '{"a":1}', "ep_a"),
    worker_messages.SendKeepalive("req_1"),
    worker_messages.ConnectionRefused(1, "too_many"),
    worker_messages.KeyFound(9, True, replace(GRANT, ttl_s=12.5)),
    worker_messages.KeyFound(10, True, None),
    worker_messages.KeyFound(11, False, None),
    worker_messages.RecordSaved("req_1", True),
    worker_messages.MoveConnections(1),
    worker_messages.ReportCounts(2),
    worker_messages.DrainRequests(3, 2.5),
    worker_messages.ListenOn(),
    worker_messages.ServeConnection(),
    worker_messages.EnterLameDuck(),
    worker_messages.RereadCertificate(),
    worker_messages.StopWorker(),
    worker_messages.KeysRevised(12),
    worker_messages.BeginWorker(SETTINGS, "0102", ["/c.pem", "/k.pem"]),
    worker_messages.BeginWorker(SETTINGS, "0102", None),
]
DIRECTIONS = [
    ("to_main", TO_MAIN, worker_messages.TO_MAIN),
    ("to_worker", TO_WORKER, worker_messages.TO_WORKER),
]


@pytest.mark.parametrize(("name", "sent", "table"), DIRECTIONS, ids=["to_main", "to_worker"])
async def test_every_kind_has_the_bytes_that_other_releases_read(
    name: str, sent: list[Any], table: MessageTable
) -> None:
    """Recorded from the release before the kinds had classes: an old main process starts workers of a new release."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours, lambda *_: None, lambda: None)
    for message in sent:
        worker_messages.send(channel, message)
    await asyncio.sleep(0)
    channel.close()
    expected = [text.encode() for kind in GOLDEN[name].values() for text in kind]
    with theirs, theirs.makefile("rb") as stream:
        assert stream.read() == b"".join(struct.pack("!IB", len(each), 0) + each for each in expected)
    assert {message.kind for message in sent} == set(table.by_kind)


@pytest.mark.parametrize(("name", "sent", "table"), DIRECTIONS, ids=["to_main", "to_worker"])
def test_every_kind_is_read_as_it_was_sent(name: str, sent: list[Any], table: MessageTable) -> None:
    """The receiver's dataclass equals the sender's."""
    received = [json.loads(text) for kind in GOLDEN[name].values() for text in kind]
    assert [table.decode(kind, values) for kind, *values in received] == sent


def test_a_record_comes_back_with_its_admission() -> None:
    """The worker sends the rest of the record; the main process has the admission."""
    assert TerminalRecord.of(RECORD).record(ADMISSION) == RECORD


async def test_an_unknown_kind_is_reported_by_the_main_process_and_ignored_by_a_worker() -> None:
    """A worker of a newer release may send more; what comes behind such a message arrives."""
    ours, theirs = socket.socketpair()
    session = WorkerSession(None, ours, lambda _sock: None, lambda: None)  # type: ignore[arg-type]
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    channel = Channel(theirs, lambda *_: None, lambda: None)
    channel.send("of_another_release", 1)
    worker_messages.send(channel, worker_messages.WorkerUp())
    async with asyncio.timeout(60):
        await session.up.wait()
    assert [type(each) for each in reported] == [KeyError]
    session._channel.close()
    channel.close()
    ours, theirs = socket.socketpair()
    worker = Worker(theirs)
    worker._receive(["of_another_release", 1], [])
    worker._channel.close()
    ours.close()

"""The messages of a hand-over: their bytes, which an old agent and a new one share."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from message_values import ADMISSION, FLEET, RECORD

from pareta_agent.ipc.link import Link, LinkMessage
from pareta_agent.ipc.message_table import MessageTable
from pareta_agent.node.upgrade import messages
from pareta_agent.node.upgrade.messages import TO_PREDECESSOR, TO_SUCCESSOR, decode, send

GOLDEN = json.loads((Path(__file__).parents[4] / "data/upgrade_messages.json").read_text())

OF_SUCCESSOR: list[Any] = [
    messages.RequestHandover(),
    messages.SpoolTaken(),
    messages.NowServing(),
    messages.RequestAnswered(3, None),
    messages.RequestAnswered(4, [500, 1.5]),
    messages.RequestAnswered(5, None),
    messages.FleetOffered(FLEET, None, True),
    messages.FleetOffered(FLEET, ["ep_a/0"], False),
    messages.ConfirmFleet(0),
    messages.ConfirmFleet(1),
]
OF_PREDECESSOR: list[Any] = [
    messages.OfferListeners(),
    messages.OwnershipPassed({"ep_a/0": 3}),
    messages.LoadChanged({"ep_a/0": 2}),
    messages.WaitingChanged({"ep_a": 1}),
    messages.AdmissionMade(ADMISSION),
    messages.RecordMade(1, RECORD),
    messages.LeaseCredit(2, ("org_a", 900)),
    messages.WakeEndpoint("ep_a"),
    messages.FleetConfirmed(1, {"ep_a/0": 2}),
    messages.ConnectionPassed(),
    messages.HandoverDone({"org_a": (500, 1.5)}),
]
DIRECTIONS = [
    ("to_predecessor", OF_SUCCESSOR, TO_PREDECESSOR),
    ("to_successor", OF_PREDECESSOR, TO_SUCCESSOR),
]
IDS = ["to_predecessor", "to_successor"]


@pytest.mark.parametrize(("name", "sent", "table"), DIRECTIONS, ids=IDS)
async def test_every_kind_has_the_bytes_that_other_releases_read(
    name: str, sent: list[Any], table: MessageTable
) -> None:
    """Recorded from the release before the kinds had classes: a hand-over joins two releases."""
    ours, theirs = socket.socketpair()
    link = Link(ours)
    for message in sent:
        send(link, message)
    link.close()
    expected = [text.encode() for kind in GOLDEN[name].values() for text in kind]
    with theirs, theirs.makefile("rb") as stream:
        assert stream.read() == b"".join(struct.pack("!IB", len(each), 0) + each for each in expected)
    assert {message.kind for message in sent} == set(table.by_kind)


@pytest.mark.parametrize(("name", "sent", "table"), DIRECTIONS, ids=IDS)
def test_every_kind_is_read_as_it_was_sent(name: str, sent: list[Any], table: MessageTable) -> None:
    """The receiver's dataclass has the sender's values; JSON has lists for tuples and sets."""
    received = [
        decode(table, LinkMessage(*json.loads(text))) for kind in GOLDEN[name].values() for text in kind
    ]
    assert [_plain(each) for each in received] == [_plain(each) for each in sent]


def test_an_unknown_kind_is_ignored() -> None:
    """An agent of a newer release may send more."""
    assert decode(TO_PREDECESSOR, LinkMessage("of_another_release", [1, 2])) is None
    assert decode(TO_SUCCESSOR, LinkMessage("hello", None)) is None


def _plain(message: Any) -> tuple[str, str]:
    values = [getattr(message, name) for name in message.__match_args__]
    lists = [sorted(each) if isinstance(each, frozenset) else each for each in values]
    return message.kind, repr(lists).replace("(", "[").replace(")", "]")

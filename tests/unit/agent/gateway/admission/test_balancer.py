"""Which replica a call goes to."""

from pathlib import Path

import pytest

from pareta_agent.contract.fleet_view import EndpointView, ReplicaView
from pareta_agent.gateway.admission.balancer import pick, prompt_prefix
from pareta_agent.gateway.admission.state import REMEMBERED, Affinity, ConcurrencyCap

REPLICAS = tuple(ReplicaView(f"ep/{i}", 1, Path(f"/{i}"), seats=16) for i in range(3))
LIVE = EndpointView("ep", "org", "t", "a", "live", REPLICAS)
ROOM = ConcurrencyCap(per_slot=2, least=4, most=100)


def chosen(load, **how):
    found = pick(LIVE, load, ROOM, **how)
    return found and found.name


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ({}, "ep/0"),
        ({"ep/0": 1}, "ep/1"),
        ({"ep/0": 2, "ep/1": 1, "ep/2": 1}, "ep/1"),
        ({"ep/0": 1, "ep/1": 1}, "ep/2"),
    ],
)
def test_the_least_loaded_replica_is_chosen(load, expected):
    """The first of equals."""
    assert chosen(load) == expected


@pytest.mark.parametrize(
    ("load", "expected"),
    [({}, "ep/2"), ({"ep/2": 2}, "ep/2"), ({"ep/2": 3}, "ep/0"), ({"ep/2": 3, "ep/0": 1, "ep/1": 1}, "ep/2")],
)
def test_who_knows_the_prompt_is_chosen_while_the_others_are_not_much_freer(load, expected):
    """An eighth of its seats, two at least, is what knowing a prompt is worth."""
    assert chosen(load, preferred="ep/2") == expected


def test_a_favourite_that_is_gone_is_no_favourite():
    """It ended since."""
    assert chosen({"ep/0": 1}, preferred="ep/9") == "ep/1"


def test_a_replica_that_was_lost_is_not_chosen_again():
    """A retry goes elsewhere, or nowhere."""
    assert chosen({}, without="ep/0") == "ep/1"
    lonely = EndpointView("ep", "org", "t", "a", "live", REPLICAS[:1])
    assert pick(lonely, {}, ROOM, without="ep/0") is None


@pytest.mark.parametrize(("seats", "room"), [(16, 32), (1, 4), (1000, 100), (None, 100)])
def test_room_grows_with_seats_within_bounds(seats, room):
    """So many calls for each seat, not fewer than the least, not more than the most."""
    assert ROOM.of(ReplicaView("ep/0", 1, Path("/0"), seats=seats)) == room


def test_replicas_without_room_are_not_chosen():
    """Nobody is chosen where nobody has room, however well liked."""
    full = {replica.name: 32 for replica in REPLICAS}
    assert chosen(full, preferred="ep/1") is None
    assert chosen({**full, "ep/1": 31}) == "ep/1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a" * 2000 + "b", "a" * 2000 + "c", True),
        ("a" * 100, "a" * 101, False),
        ([{"role": "user", "content": "a"}], [{"role": "system", "content": "a"}], False),
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": [{"text": "a"}]}], True),
        ([1, 2, 3], [1, 2, 4], False),
        (["ab", "c"], ["a", "bc"], False),
        (None, None, True),
    ],
)
def test_a_beginning_is_the_same_where_the_first_characters_are(one, other, same):
    """In any shape that a prompt may have."""
    assert (prompt_prefix(one) == prompt_prefix(other)) is same


def test_the_oldest_beginnings_are_forgotten():
    """The memory is bounded, and what is seen again is young again."""
    affinity = Affinity()
    for key in range(REMEMBERED):
        affinity.record(key, "ep/0")
    affinity.record(0, "ep/1")
    affinity.record(REMEMBERED, "ep/0")
    assert [affinity.preferred(key) for key in (0, 1, 2)] == ["ep/1", "", "ep/0"]

"""Node registry: epochs that only grow, fencing, gaps, and the state of each node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pareta_agent.contract.wire import (
    DesiredEndpoint,
    EpochMark,
    Heartbeat,
    Observed,
    Register,
    Revisions,
    SpoolReport,
)
from pareta_agent.plane.store.api_keys import Keys, sha256_hex
from pareta_agent.plane.store.credit_store import LEASE_TTL_S, Credit
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.desired_state import DesiredState
from pareta_agent.plane.store.nodes import Nodes
from pareta_agent.plane.store.orgs import Orgs
from pareta_agent.plane.store.schema import chains


class Clock:
    now_s = 1000.0

    def wall_s(self) -> float:
        return self.now_s

    mono_s = boot_s = wall_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nodes(database: Database, clock: Clock) -> Nodes:
    found = Nodes(database, clock)
    found.ensure("n", "token")
    return found


def register(nodes: Nodes, *marks: tuple[int, int, int], spool_id: str = "s") -> int:
    epochs = [EpochMark(epoch=epoch, last_seq=last, acked_seq=acked) for epoch, last, acked in marks]
    body = Register(node="n", boot_id="b", agent_version="0", spool_id=spool_id, epochs=epochs)
    return nodes.register(body).epoch


def beat(epoch: int, last_seq: int = 0, acked_seq: int = 0) -> Heartbeat:
    spool = SpoolReport(last_seq=last_seq, acked_seq=acked_seq)
    return Heartbeat(node="n", epoch=epoch, hb_seq=1, boot_id="b", state="ready", spool=spool)


def taken(database: Database, epoch: int, last_seq: int) -> None:
    row = {
        "source": "//pareta/node/n/spool/s",
        "epoch": epoch,
        "node": "n",
        "last_seq": last_seq,
        "last_hash": "00",
    }
    with database.write() as connection:
        connection.execute(chains.insert().values(**row))


def test_epochs_only_grow(nodes: Nodes) -> None:
    """A new epoch is above the plane's epochs, and above the node's epochs from a lost plane."""
    assert [register(nodes), register(nodes), register(nodes, (40, 1, 1)), register(nodes)] == [1, 2, 41, 42]


def test_registrations_at_once_get_an_epoch_each(nodes: Nodes) -> None:
    """Two holders of one epoch would not fence each other."""
    with ThreadPoolExecutor(8) as pool:
        epochs = list(pool.map(lambda _: register(nodes), range(8)))
    assert sorted(epochs) == list(range(1, 9))


def test_a_new_epoch_starts_without_leases(nodes: Nodes, database: Database, clock: Clock) -> None:
    """Leases of the earlier epoch are free at once, not only after the expiry."""
    Orgs(database).ensure("org", 100)
    credit = Credit(database, clock)
    assert credit.lease("n", "org", 100).granted_micro_usd == 100
    assert credit.lease("n", "org", 100).granted_micro_usd == 0
    register(nodes)
    assert credit.lease("n", "org", 100).granted_micro_usd == 100


def test_a_beat_hears_which_keys_were_revoked_since_the_last(
    nodes: Nodes, database: Database, clock: Clock
) -> None:
    """The answer has the hashes; for an unknown revision the answer is None, which covers all keys."""
    orgs, keys, epoch = Orgs(database), Keys(database, clock), register(nodes)
    orgs.ensure("org", 100)
    first, second = keys.mint("org"), keys.mint("org")

    def heard(revision: int) -> tuple[int, list[str] | None]:
        answer = nodes.heartbeat(beat(epoch).model_copy(update={"revisions": Revisions(keys=revision)}))
        assert answer is not None
        return answer.keys_revision, answer.keys_withdrawn

    assert heard(2) == (2, [])
    keys.revoke(first.id)
    orgs.top_up("org", 1)
    keys.revoke(second.id)
    assert heard(2) == (5, [sha256_hex(first.secret), sha256_hex(second.secret)])
    assert heard(4) == (5, [sha256_hex(second.secret)])
    assert [heard(0), heard(6)] == [(5, None)] * 2


def test_an_old_epoch_is_fenced(nodes: Nodes) -> None:
    """Heartbeats and reports of an older epoch have no answer."""
    old, new = register(nodes), register(nodes)
    assert nodes.heartbeat(beat(old)) is None
    assert nodes.heartbeat(beat(new)) is not None
    assert nodes.observed("n", Observed(epoch=old, desired_revision=0, endpoints=[])) is False
    assert nodes.observed("n", Observed(epoch=new, desired_revision=0, endpoints=[])) is True


def test_a_plane_that_is_behind_asks_for_more(nodes: Nodes, database: Database) -> None:
    """A plane restored from a backup returns the expected sequence, at registration and at a heartbeat."""
    taken(database, 1, 5)
    marks = [EpochMark(epoch=1, last_seq=9, acked_seq=7), EpochMark(epoch=2, last_seq=3, acked_seq=0)]
    body = Register(node="n", boot_id="b", agent_version="0", spool_id="s", epochs=marks)
    assert nodes.register(body).expected == {1: 6}
    taken(database, 3, 5)
    answer = nodes.heartbeat(beat(3, last_seq=9, acked_seq=7))
    assert answer is not None
    assert answer.expected_seq == 6


def test_a_node_that_forgot_is_noticed_once(nodes: Nodes, database: Database) -> None:
    """A report below the received sequence is a gap, recorded after one heartbeat."""
    epoch = register(nodes)
    taken(database, epoch, 5)
    for _ in range(3):
        nodes.heartbeat(beat(epoch, last_seq=4))
    assert nodes.gaps("n") == [(epoch, 5, 4)]


def test_a_spool_without_the_newest_epochs_is_noticed(nodes: Nodes, database: Database) -> None:
    """A disk rolled back by days lacks epochs that the plane received."""
    taken(database, 1, 5)
    taken(database, 2, 8)
    register(nodes, (1, 5, 5))
    assert nodes.gaps("n") == [(2, 8, 0)]


@pytest.mark.parametrize(("mark", "spool_id"), [((1, 7, 5), "s"), (None, "another")])
def test_what_a_beat_told_of_and_the_spool_no_longer_has_is_noticed(
    nodes: Nodes, database: Database, mark: tuple[int, int, int] | None, spool_id: str
) -> None:
    """A disk rolled back between heartbeat and delivery loses records that only the heartbeat reported."""
    epoch = register(nodes)
    taken(database, epoch, 5)
    nodes.heartbeat(beat(epoch, last_seq=9, acked_seq=5))
    register(nodes, *([mark] if mark else []), spool_id=spool_id)
    assert nodes.gaps("n") == [(epoch, 9, 7 if mark else 0)]


def test_a_spool_that_was_delivered_may_go(nodes: Nodes, database: Database) -> None:
    """A new disk is no gap when the plane has all that the old disk reported."""
    epoch = register(nodes)
    taken(database, epoch, 9)
    nodes.heartbeat(beat(epoch, last_seq=9, acked_seq=9))
    epoch = register(nodes, spool_id="another")
    nodes.heartbeat(beat(epoch, last_seq=4))
    register(nodes, (epoch, 4, 0), spool_id="another")
    assert nodes.gaps("n") == []


def test_a_node_that_cannot_meter_is_alive_and_not_ready(nodes: Nodes) -> None:
    """The lease is renewed, so that observed endpoints are still reported."""
    epoch = register(nodes)
    for metering_ok, state in ((True, "ready"), (False, "unready"), (True, "ready")):
        assert nodes.heartbeat(beat(epoch).model_copy(update={"metering_ok": metering_ok})) is not None
        assert [row.state for row in nodes.rows()] == [state]


def test_a_silent_node_is_suspect_then_lost(nodes: Nodes, clock: Clock) -> None:
    """Ready until 25 s, suspect until 50 s, then lost."""
    nodes.heartbeat(beat(register(nodes)))
    states = []
    for age_s in (0.0, 24.9, 25.0, 49.9, 50.0):
        clock.now_s = 1000.0 + age_s
        states.append(nodes.rows()[0].state)
    assert states == ["ready", "ready", "suspect", "suspect", "lost"]


def test_a_token_names_its_node(nodes: Nodes) -> None:
    """A new token ends the old token; neither is stored."""
    minted = nodes.mint("n")
    assert (nodes.of_token(minted), nodes.of_token("token"), nodes.of_token("")) == ("n", None, None)


def test_a_beat_renews_living_leases_only(nodes: Nodes, database: Database, clock: Clock) -> None:
    """An expired lease is gone, and the answer does not list the lease."""
    Orgs(database).ensure("org", 100)
    Orgs(database).ensure("old", 100)
    credit, epoch = Credit(database, clock), register(nodes)
    credit.lease("n", "old", 10)
    clock.now_s += LEASE_TTL_S - 1
    credit.lease("n", "org", 10)
    clock.now_s += 2
    answer = nodes.heartbeat(beat(epoch))
    assert answer is not None
    assert [(lease.org, lease.expires_s) for lease in answer.credit_leases] == [("org", LEASE_TTL_S)]


def test_how_long_an_endpoint_idles_is_told_and_its_change_is_a_revision(
    database: Database, clock: Clock
) -> None:
    """A set, changed or removed timeout is a revision; a repeat is not."""
    desired_state, revisions = DesiredState(database, clock), []
    for idle_s in (600.0, 600.0, 0.0, None):
        desired_state.replace([DesiredEndpoint(id="ep", org="o", task="t", alias="a", idle_sleep_s=idle_s)])
        desired = desired_state.read()
        assert [each.idle_sleep_s for each in desired.endpoints] == [idle_s]
        revisions.append(desired.revision)
    assert revisions == [1, 1, 2, 3]

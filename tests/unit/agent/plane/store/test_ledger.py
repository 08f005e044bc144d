"""Ledger: next entry only, once per identity and per request, and money in the same transaction."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from sqlalchemy.exc import IntegrityError

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_event import NO_HASH, Item, SpoolEntry, canonical, chain, finished, item
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.contract.wire import DesiredEndpoint, Register, WirePrice
from pareta_agent.errors import ConfigError
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.api_keys import sha256_hex
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.ledger import BatchRefused, Taken
from pareta_agent.plane.store.revisions import revision_of
from pareta_agent.plane.store.schema import ledger

SOURCE = "//pareta/node/n/spool/s"


@pytest.fixture
def plane(database: Database) -> Plane:
    plane = Plane.on(database, SystemClock())
    plane.orgs.ensure("org", 1_000_000)
    price = WirePrice(
        input_micro_usd_per_mtok=1_000_000,
        cached_input_micro_usd_per_mtok=500_000,
        output_micro_usd_per_mtok=2_000_000,
    )
    plane.desired_state.replace([DesiredEndpoint(id="ep", org="org", task="t", alias="a", price=price)])
    return plane


def usage(
    request_id: str, outcome: Outcome = Outcome.COMPLETED, source: Any = "engine_final", **changed: Any
) -> Item:
    tokens = changed.pop("tokens", Tokens(100, 40, 10))
    values = {"org": "org", "endpoint": "ep", "key_id": "k", **changed}
    admission = Admission(
        request_id, task="t", alias="a", route="/r", streamed=False, t_admit_wall_s=0, **values
    )
    return finished(UsageRecord(admission, outcome, source, tokens))


def chained(items: list[Item], epoch: int = 1) -> list[dict[str, Any]]:
    events, previous = [], NO_HASH
    for sequence, each in enumerate(items, 1):
        body = canonical(each, SOURCE, epoch, sequence)
        entry = SpoolEntry(epoch, sequence, previous, chain(previous, body), body)
        previous = entry.hash
        events.append(orjson.loads(entry.wire()))
    return events


def test_rows_debits_and_the_sequence_move_together(plane: Plane) -> None:
    """60 fresh and 40 cached input, 10 output: 60 + 20 + 20 micro-dollars."""
    events = chained([usage("a"), usage("b", Outcome.FAILED_ENGINE)])
    taken = plane.ledger.take("n", events)
    assert taken == Taken(1, 2, events[-1]["hash"], 0, ())
    assert [(row["request_id"], row["debit_micro_usd"]) for row in plane.ledger.rows()] == [
        ("a", 100),
        ("b", 0),
    ]
    assert plane.orgs.balance("org") == 1_000_000 - 100


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.COMPLETED])
def test_only_a_completed_request_is_debited(plane: Plane, outcome: Outcome) -> None:
    """Any other outcome is a row without a debit."""
    plane.ledger.take("n", chained([usage("a", outcome)]))
    assert [row["debit_micro_usd"] for row in plane.ledger.rows()] == [0]
    assert plane.orgs.balance("org") == 1_000_000


def test_what_was_delivered_is_debited_where_the_org_says_so(plane: Plane) -> None:
    """Under `delivered` ten output tokens are debited and no prompt; under `none` the next such call is free."""
    seen = {"outcome": Outcome.PARTIAL_CLIENT, "source": "chunk_count", "tokens": Tokens(output=10)}
    events = chained([usage("a", **seen), usage("b", **seen), usage("c", Outcome.FAILED_ENGINE)])
    plane.orgs.set_partial("org", "delivered")
    plane.ledger.take("n", events[:1])
    plane.orgs.set_partial("org", "none")
    plane.ledger.take("n", events[1:])
    assert [row["debit_micro_usd"] for row in plane.ledger.rows()] == [20, 0, 0]
    assert plane.orgs.balance("org") == 1_000_000 - 20


def revision(database: Database) -> int:
    with database.read() as connection:
        return revision_of(connection, "keys")


def test_a_key_says_its_orgs_policy(plane: Plane, database: Database) -> None:
    """The grant has the org's policy, and a change moves the revision."""
    secret = plane.keys.mint("org").secret
    before = revision(database)
    plane.orgs.set_partial("org", "delivered")
    found = plane.keys.introspect(sha256_hex(secret))
    assert found is not None
    assert (found.partial, revision(database)) == ("delivered", before + 1)
    with pytest.raises(ConfigError):
        plane.orgs.set_partial("nobody", "none")


def test_a_suspect_count_is_not_debited(plane: Plane) -> None:
    """An implausible count costs nothing."""
    plane.ledger.take("n", chained([usage("a", source="suspect")]))
    assert [(row["usage_source"], row["debit_micro_usd"]) for row in plane.ledger.rows()] == [("suspect", 0)]


def test_a_repeat_is_a_duplicate(plane: Plane) -> None:
    """The same batch again changes nothing and is acknowledged again."""
    events = chained([usage("a"), usage("b")])
    plane.ledger.take("n", events)
    assert plane.ledger.take("n", events) == Taken(1, 2, events[-1]["hash"], 2, ())
    assert plane.orgs.balance("org") == 1_000_000 - 200


def test_a_batch_that_comes_twice_at_once_is_taken_once(plane: Plane) -> None:
    """Eight concurrent deliveries give one row and one debit for each event, and the same acknowledgement."""
    names = [f"r{n:03}" for n in range(200)]
    events = chained([usage(name) for name in names])
    plane.ledger.take("n", events[:1])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: plane.ledger.take("n", events), range(8)))
    assert [answer.acked_seq for answer in answers if isinstance(answer, Taken)] == [200] * 8
    assert [row["request_id"] for row in plane.ledger.rows()] == names
    assert plane.orgs.balance("org") == 1_000_000 - 200 * 100


def test_a_request_twice_in_a_batch_is_ledgered_once(plane: Plane) -> None:
    """The second is rejected by name; later events are taken."""
    taken = plane.ledger.take("n", chained([usage("a"), usage("a"), usage("b")]))
    assert isinstance(taken, Taken)
    assert taken.rejected == ((2, "this request is in the ledger already"),)
    assert [row["request_id"] for row in plane.ledger.rows()] == ["a", "b"]


def test_the_database_itself_keeps_a_request_single(plane: Plane, database: Database) -> None:
    """The database refuses a second row of the same request, whatever the writer."""
    plane.ledger.take("n", chained([usage("a")]))
    row = plane.ledger.rows()[0] | {"sequence": 99}
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(ledger.insert().values(**row))


def test_a_gap_is_refused_with_what_is_expected(plane: Plane) -> None:
    """Nothing is taken out of order."""
    events = chained([usage(str(n)) for n in range(4)])
    plane.ledger.take("n", events[:1])
    assert plane.ledger.take("n", events[2:]) == BatchRefused("gap", expected_seq=2)
    assert plane.ledger.take("n", [events[1], events[3]]) == BatchRefused("gap", expected_seq=2)
    assert len(plane.ledger.rows()) == 1


def test_a_changed_event_breaks_the_chain(plane: Plane) -> None:
    """A count altered on the way: nothing of the batch is taken."""
    events = chained([usage("a"), usage("b")])
    events[1]["data"]["tokens"]["output"] = 11
    assert plane.ledger.take("n", events) == BatchRefused("the chain is broken at 2")
    assert plane.ledger.rows() == []


def test_a_forked_chain_is_refused(plane: Plane) -> None:
    """Another history for the same epoch cannot continue the chain."""
    plane.ledger.take("n", chained([usage("a")]))
    assert plane.ledger.take("n", chained([usage("x"), usage("y")])) == BatchRefused(
        "the chain is broken at 2"
    )


def test_a_request_is_ledgered_once_whatever_its_identity(plane: Plane) -> None:
    """The same request in another epoch is rejected, and does not block later events."""
    plane.ledger.take("n", chained([usage("a")]))
    taken = plane.ledger.take("n", chained([usage("a"), usage("b")], epoch=2))
    assert isinstance(taken, Taken)
    assert taken.rejected == ((1, "this request is in the ledger already"),)
    assert [row["request_id"] for row in plane.ledger.rows()] == ["a", "b"]


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (usage("a", endpoint="nowhere"), "unknown endpoint"),
        (usage("a", org="nobody"), "unknown org"),
        (item("ai.pareta.inference.finished.v1", {}, 0), "invalid data: request_id: missing"),
        (usage(""), "invalid data: request_id: string_too_short"),
        (usage("a\x00b"), "invalid data: request_id: string_pattern_mismatch"),
        (
            item("ai.pareta.inference.finished.v1", {"request_id": {}}, 0),
            "invalid data: request_id: string_type",
        ),
        (usage("a", key_id="k" * 65), "invalid data: key_id: string_too_long"),
        (usage("a", tokens=Tokens(2**63, 0, 1)), "invalid data: tokens.input: less_than_equal"),
        (item("t" * 65, {}, 0), "the event type is invalid"),
    ],
)
def test_a_poison_event_is_rejected_and_passed(plane: Plane, poison: Item, reason: str) -> None:
    """A rejected event keeps the sequence, so that later events can follow."""
    taken = plane.ledger.take("n", chained([poison, usage("b")]))
    assert isinstance(taken, Taken)
    assert (taken.acked_seq, taken.rejected) == (2, ((1, reason),))


@pytest.mark.parametrize("batch", [[{}], [{"epoch": 1}], [{**chained([usage("a")])[0], "data": 1}]])
def test_what_is_no_event_is_refused(plane: Plane, batch: list[dict[str, Any]]) -> None:
    """A malformed batch is an answer, not a crash."""
    assert isinstance(plane.ledger.take("n", batch), BatchRefused)


def test_another_nodes_source_is_refused(plane: Plane) -> None:
    """A node writes only the chains of that node."""
    assert plane.ledger.take("m", chained([usage("a")])) == BatchRefused("the source is not this node's")


def test_a_failure_midway_leaves_nothing(plane: Plane, database: Database) -> None:
    """When the sequence cannot be written, neither rows nor debits exist."""
    breaks = (
        "CREATE TRIGGER broken BEFORE INSERT ON chains BEGIN SELECT RAISE(ABORT, 'no'); END"
        if database.sqlite
        else "ALTER TABLE chains ADD CONSTRAINT broken CHECK (last_seq < 0)"
    )
    with database.write() as connection:
        connection.exec_driver_sql(breaks)
    with pytest.raises(IntegrityError):
        plane.ledger.take("n", chained([usage("a")]))
    assert plane.ledger.rows() == []
    assert plane.orgs.balance("org") == 1_000_000


def test_a_debit_uses_up_the_lease_that_covered_it(plane: Plane) -> None:
    """A spent lease amount is not set aside twice."""
    plane.nodes.ensure("n", "token")
    assert plane.credit.lease("n", "org", 1_000_000).granted_micro_usd == 1_000_000
    plane.ledger.take("n", chained([usage("a")]))
    plane.orgs.top_up("org", 50)
    assert plane.credit.lease("n", "org", 1_000).granted_micro_usd == 50


def test_a_grant_that_nobody_heard_of_is_granted_again(plane: Plane) -> None:
    """After a lost answer the node reports the received grants, and the plane releases the rest."""
    plane.nodes.ensure("n", "token")
    assert plane.credit.lease("n", "org", 400_000, 0).granted_micro_usd == 400_000
    plane.ledger.take("n", chained([usage("a")]))
    left = plane.orgs.balance("org") or 0
    assert plane.credit.lease("n", "org", 1_000_000, 400_000).granted_micro_usd == 600_000
    assert plane.credit.lease("n", "org", 1_000_000, 400_000).granted_micro_usd == 600_000
    assert plane.credit.lease("n", "org", 1, 1_000_000).granted_micro_usd == 0
    assert plane.credit.lease("m", "org", 1, 0).granted_micro_usd == 0
    plane.credit.lease("n", "org", 1, 400_000)
    assert plane.credit.lease("m", "org", left, 0).granted_micro_usd == 600_000 - 1


def test_what_was_heard_in_an_earlier_epoch_takes_nothing_from_a_new_one(plane: Plane) -> None:
    """Leases end with the epoch, and the sum of received grants begins at zero."""
    plane.nodes.ensure("n", "token")
    assert plane.credit.lease("n", "org", 400_000, 0).granted_micro_usd == 400_000
    plane.nodes.register(Register(node="n", boot_id="b", agent_version="0", spool_id="s"))
    assert plane.credit.lease("n", "org", 300_000, 0).granted_micro_usd == 300_000
    assert plane.credit.lease("n", "org", 1_000_000, 300_000).granted_micro_usd == 700_000


def test_two_nodes_are_not_granted_the_same_money(plane: Plane) -> None:
    """Sixteen concurrent requests for more than the balance together receive the balance."""
    with ThreadPoolExecutor(16) as pool:
        grants = list(pool.map(lambda n: plane.credit.lease(f"n{n}", "org", 100_000), range(16)))
    assert sum(grant.granted_micro_usd for grant in grants) == 1_000_000

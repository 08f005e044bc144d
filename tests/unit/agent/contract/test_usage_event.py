"""Events as bytes: canonical, chained, equal on both ends of the wire."""

from __future__ import annotations

import hashlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pareta_agent.contract.usage_event import (
    NO_HASH,
    SpoolEntry,
    canonical,
    chain,
    finished,
    item,
    parse_wire,
    timestamp,
)
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.meter.chain_check import Flaw, verify

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), json_values, max_size=5),
    st.integers(1, 2**22),
    st.integers(1, 2**39),
)
def test_what_arrives_hashes_as_what_was_written(data: dict[str, object], epoch: int, sequence: int) -> None:
    """The plane calculates the node's bytes from the parsed event."""
    body = canonical(item("t", data, 1.5), "//pareta/node/n/spool/s", epoch, sequence)
    entry = SpoolEntry(epoch, sequence, NO_HASH, chain(NO_HASH, body), body)
    assert parse_wire(orjson.loads(entry.wire())) == entry
    assert orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS) == body


def test_a_hash_covers_the_previous_hash_and_the_bytes() -> None:
    """A hash follows the formula of the wire."""
    assert chain(NO_HASH, b"abc") == hashlib.sha256(bytes(32) + b"abc").digest()


def test_a_usage_record_says_all_that_the_wire_asks_and_nothing_more() -> None:
    """An event has exactly the members of `inference.finished`, by name."""
    admission = Admission("r1", "org", "key", "ep", "task", "alias", "/v1/completions", False, 1.7e9)
    data = orjson.loads(
        finished(UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(3, 1, 2))).data
    )
    assert " ".join(data) == (
        "alias choices endpoint engine finish_reasons key_id org outcome request_id retry_count route schema streamed "
        "t_admit t_end t_first_token task tokens units usage_source"
    )
    assert data["tokens"] == {
        "input": 3,
        "input_cached": 1,
        "input_multimodal": {},
        "output": 2,
        "output_reasoning": 0,
    }


def test_a_usage_record_is_canonical_as_it_is_written() -> None:
    """Keys are written in order at every depth: sorting changes nothing."""
    admission = Admission("r1", "org", "key", "ep", "task", "alias", "/v1/completions", False, 1.7e9)
    data = finished(
        UsageRecord(admission, Outcome.COMPLETED, "engine_final", Tokens(3, 1, 2), ("stop",))
    ).data
    assert orjson.dumps(orjson.loads(data), option=orjson.OPT_SORT_KEYS) == data


@pytest.mark.parametrize(
    ("wall_s", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1.7e9 + 0.0625, "2023-11-14T22:13:20.062Z"),
        (2.0**33, "2242-03-16T12:56:32.000Z"),
    ],
)
def test_timestamps_are_rfc3339_in_utc(wall_s: float, expected: str) -> None:
    """Timestamps are cut to milliseconds."""
    assert timestamp(wall_s) == expected


def test_verify_names_each_flaw() -> None:
    """A changed byte, a broken link and a missing entry give different flaws."""
    entries, previous = [], NO_HASH
    for sequence in range(1, 6):
        body = canonical(item("t", {"n": sequence}, 0), "s", 1, sequence)
        entries.append(SpoolEntry(1, sequence, previous, chain(previous, body), body))
        previous = entries[-1].hash
    changed = SpoolEntry(1, 2, entries[1].prev_hash, entries[1].hash, entries[1].body + b" ")
    assert list(verify(entries)) == []
    assert list(verify(entries[2:])) == []
    assert list(verify([entries[0], changed, *entries[2:]])) == [
        Flaw(1, 2, "the bytes do not match the hash")
    ]
    assert list(verify([*entries[:2], *entries[3:]])) == [Flaw(1, 4, "3 is missing before this entry")]

"""What operators, scrapers, planes and clients depend on does not change unnoticed."""

import json

import public_contract
import pytest

COMMITTED = json.loads(public_contract.COMMITTED.read_text())


@pytest.mark.parametrize("part", sorted(COMMITTED))
def test_the_public_contract_is_as_committed(part):
    """After a change that the changelog announces: `python tests/public_contract.py`."""
    assert json.loads(json.dumps(public_contract.contract()[part])) == COMMITTED[part]


def test_no_part_is_empty():
    """A list that nothing is read into would hold nothing."""
    lists = [COMMITTED[part] for part in ("commands", "errors", "events", "metrics")]
    lists += [COMMITTED["settings"]["properties"], *(api["paths"] for api in COMMITTED["apis"].values())]
    assert all(len(each) > 5 for each in lists)

"""The figures that are shown for the money fault suite: a row for every fault, and each of them holds."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from moneylab.mutate import MUTANTS, PACKAGE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SUITE = runpy.run_path(str(BENCHMARKS / "faults.py"))
LABS, TESTED, MUTATION = SUITE["LABS"], SUITE["TESTED"], SUITE["MUTATION"]
RESULTS: dict[str, dict[str, Any]] = json.loads((BENCHMARKS / "results" / "faults.json").read_text())


def test_every_fault_has_a_row_and_every_row_a_fault() -> None:
    """What was never measured is not shown, and what is not made any more is not either."""
    assert set(RESULTS) - {"machine"} == {*LABS, *TESTED, MUTATION}


@pytest.mark.parametrize("fault", sorted({*LABS, *TESTED}))
def test_a_row_holds(fault: str) -> None:
    """Nothing lost, nothing counted twice, and an outcome for whatever was admitted and is not open."""
    row = RESULTS[fault]
    assert row["holds"]
    assert (row["lost"], row["double"]) == (0, 0)
    assert row["admitted"] == row["outcomes"] + row["open"] > 0


def test_every_safeguard_is_where_it_is_taken_away() -> None:
    """In one place: a mutant that changes nothing proves nothing."""
    assert [m.without for m in MUTANTS if (PACKAGE / m.file).read_text().count(m.old) != 1] == []


def test_every_safeguard_is_missed_when_it_is_gone() -> None:
    """No mutant lives."""
    assert len(RESULTS[MUTATION]["fates"]) >= 38
    assert set(RESULTS[MUTATION]["fates"].values()) == {"noticed"}

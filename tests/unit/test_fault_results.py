"""The figures that are shown for the money fault suite: a row for every fault, and each of them holds."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from moneylab.mutate import NOTICED, PACKAGE, fate
from moneylab.safeguards import MUTANTS

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
    """No mutant lives, and each one made a test fail."""
    fates = RESULTS[MUTATION]["fates"]
    assert set(fates) == {m.without for m in MUTANTS}
    assert {row["fate"] for row in fates.values()} == {NOTICED}
    assert all(row["by"] for row in fates.values())


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (0, "", ("SURVIVED", "")),
        (1, "FAILED tests/a.py::test_b[1] - assert 1 == 2", ("failed", "test_b[1]")),
        (1, "FAILED tests/a.py::test_b - Failed: Timeout (>100s) from pytest-timeout.", ("HUNG", "test_b")),
        (None, "", ("HUNG", "")),
        (1, "FAILED tests/a.py::test_b - NameError: name 'x' is not defined", ("NO CODE", "test_b")),
        (2, "ERROR tests/a.py - SyntaxError: invalid syntax", ("NO CODE", "tests/a.py")),
        (5, "no tests ran", ("NO CODE", "")),
    ],
)
def test_a_fate_is_what_pytest_said(code: int | None, said: str, expected: tuple[str, str]) -> None:
    """Failing, hanging and never having run are three things; only the first says that a test looks."""
    assert fate(code, said) == expected

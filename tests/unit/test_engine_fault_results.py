"""The figures that are shown for faults of engines: a row for each that was promised, and each of them holds."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CASES = runpy.run_path(str(BENCHMARKS / "engine_faults.py"))["CASES"]
RESULTS: dict[str, Any] = json.loads((BENCHMARKS / "results" / "engine_faults.json").read_text())
ROWS: dict[str, dict[str, Any]] = {row["fault"]: row for row in RESULTS["rows"]}
HOW = ("plain", "from a standby")
STARTS = {
    f"kill -9 of the {role} in phase {phase}, {HOW[standby]}"
    for standby, cases in CASES
    for phase, role in cases
}
TRACKED = {name for name in STARTS if "tracker" in name}
KILLED = {f"SIGKILL of the {role} under load" for role in ("core", "server")}
FROZEN = "SIGSTOP of the core under load"
AGENT = "kill -9 of the agent and a restart, 50 times, under load"
BOMB = "fork bomb beside the fake engine, a third of it outside of its group"
STOPS = {
    f"SIGTERM of the node at 10 random moments of the start, {{'PARETA_ENGINE_STANDBY': '{n}'}}"
    for n in (0, 1)
}
LOADED = {*KILLED, FROZEN, AGENT}


def test_every_fault_has_a_row_and_every_row_a_fault() -> None:
    """What was never measured is not shown, and what is not made any more is not either."""
    assert set(ROWS) == {*STARTS, *LOADED, BOMB, *STOPS}
    assert [row["fault"] for row in ROWS.values() if not row["holds"]] == []


@pytest.mark.parametrize("fault", sorted(ROWS))
def test_nothing_is_left(fault: str) -> None:
    """No process, no file (a socket is one), no shared memory, and so no memory."""
    left = {name: value for name, value in ROWS[fault].items() if name.startswith("left_")}
    assert set(left.values()) <= {0}
    assert len(left) == (0 if fault in TRACKED else 4)


@pytest.mark.parametrize("fault", sorted(LOADED))
def test_callers_in_flight_hear_soon_and_are_on_record_once(fault: str) -> None:
    """An answer or a typed error within two seconds of the fault (of its being noticed, where an engine froze)."""
    row = ROWS[fault]
    assert row["in_flight"] > 0
    assert row["answer_s_max"] <= 2.0
    assert (row["untyped"], row["lost"], row["double"], row["debited_wrongly"]) == (0, 0, 0, 0)


def test_an_engine_comes_again_or_was_never_gone() -> None:
    """After a death the next one serves; an agent's leaves the engine as it is."""
    assert all(ROWS[fault]["live_again_s"] > 0 for fault in {*KILLED, FROZEN})
    assert all(ROWS[fault]["started_again_s"] > 0 for fault in STARTS - TRACKED)
    assert sum("live_again_s" in ROWS[fault] for fault in STARTS) == len(HOW)
    assert ROWS[AGENT]["engines_replaced"] == 0


def test_a_frozen_core_is_noticed_within_the_watchdogs_limit() -> None:
    """`EngineSettings.progress_s` is a minute; the rest is the look at it."""
    assert ROWS[FROZEN]["noticed_after_s"] <= 75


def test_a_stop_ends_cleanly_in_whatever_phase() -> None:
    """Twenty moments, several phases; before its first word a node has no handler yet."""
    assert sum(ROWS[fault]["moments"] for fault in STOPS) == 20
    assert all(
        set(ROWS[fault]["exit_codes"]) <= {0, -15} and len(ROWS[fault]["phases"]) > 1 for fault in STOPS
    )

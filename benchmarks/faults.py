"""Runs the money fault suite at full length and writes down what it found: benchmarks/results/faults.json.

    python benchmarks/faults.py [--lives 1000] [--events 1000000] [--only WORD…] [--json benchmarks/results/faults.json]

The claim under test: no client-visible completion is lost or counted twice. One row a fault: what was lost, what was
counted double, what was admitted, how much of that has an outcome, what is still open, by an oracle outside of the node
(tests/moneylab). A row holds when nothing was lost or doubled and admitted = outcomes + open. Takes three quarters of
an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUITES = (
    "tests/faults/test_money_disk.py",
    "tests/faults/test_money_wire.py",
    "tests/faults/test_money_agent.py",
    "tests/faults/test_front_workers.py",
    "tests/integration/test_front/test_every_cut.py",
)
FIGURES = ("lost", "double", "admitted", "outcomes", "open", "damaged_and_told")
EACH = "test_each_fault_costs_delay_only"

# Faults that a suite's tests make, by the tests' names (or their beginnings).
TESTED: dict[str, tuple[str, ...]] = {
    "power cut: unsynced writes lost, kept or torn": ("test_a_power_cut_loses_nothing",),
    "flipped bytes": ("test_a_flipped_bit_costs_at_most",),
    "torn file": ("test_a_torn_file_is_put_aside",),
    "no space left (ENOSPC), reserve": ("test_a_full_disk_ends", "test_the_reserve_lets_running"),
    "the spool is full: 80 %, 95 %": ("test_a_spool_that_fills_warns",),
    "fsync fails (EIO)": ("test_a_failed_sync_is_never",),
    "slow fsync": ("test_a_slow_disk_makes",),
    "clock a year off, stepped": ("test_a_clock_that_is_set",),
    "SIGSTOP of the agent past its lease": ("test_an_agent_that_was_frozen",),
    "two agents on one spool": ("test_a_second_agent_on_the_same_spool",),
    "spool rolled back": ("test_a_spool_rolled_back",),
    "spool copied": ("test_a_copied_spool",),
    "spool of another node": ("test_the_spool_of_another_node",),
    "fenced by a newer epoch": ("test_a_fenced_node_still",),
    "plane unreachable": (f"{EACH}[away]",),
    "random 500s": (f"{EACH}[error_500]", f"{EACH}[error_500_after_commit]"),
    "commit, then the ack is lost": (f"{EACH}[lost_ack]",),
    "wrong and forged acks": (f"{EACH}[bare_200]", f"{EACH}[forged"),
    "duplicated batches": (f"{EACH}[twice]", f"{EACH}[false_gap]"),
    "reordered, cut and changed batches": (
        f"{EACH}[reordered]",
        f"{EACH}[tail_only]",
        f"{EACH}[bit_flipped]",
        f"{EACH}[impossible_gap]",
    ),
    "413, 429, 401": (f"{EACH}[too_large]", f"{EACH}[throttled]", f"{EACH}[unauthorized]"),
    "two hundred faults of the wire in random order": ("test_a_storm_of_faults",),
    "poison events": ("test_a_poison_event",),
    "plane restored from a backup": ("test_a_plane_restored",),
    "kill -9 of the agent under 64 streams": ("test_kill_9_of_the_agent",),
    "kill -9 of front workers under 64 streams": ("test_workers_that_die",),
    "kill -9 of the engine mid-stream": ("test_kill_9_of_the_engine",),
    "engine hangs": ("test_an_engine_that_hangs",),
    "the engine's stream cut at every byte": ("test_an_answer_cut_at_any_byte",),
    "caller leaves at every chunk": ("test_a_caller_may_leave",),
    "reader of a byte a second": ("test_a_caller_of_a_byte_a_second", "test_a_caller_who_reads_a_byte"),
    "the SDK retries": ("test_a_client_that_retries",),
    "forged fields": ("test_what_a_caller_forges",),
    "balance to zero under 100 callers": ("test_a_balance_that_reaches_zero",),
}


def program(module: str, *flags: str) -> Any:
    """A lab's program; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    argv = [sys.executable, "-m", module, *flags]
    done = subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def kills(*flags: str) -> dict[str, Any]:
    """A row from lives that ended by kill -9; `sound` is the oracle's word."""
    found = program("moneylab.kills", *flags)
    ended = {"admitted": found["rows"] + found["left_open"], "outcomes": found["rows"]}
    return {**found, **ended, "open": found["left_open"], "holds": found["sound"]}


def outage(events: int) -> dict[str, Any]:
    found = program("moneylab.outage", "--events", str(events))
    right = found["lost"] == found["rejected"] == 0 and found["ledgered"] == events
    fast = found["drained_per_s"] >= 5000 and found["memory_growth_mib"] <= 50
    money = {"double": 0, "admitted": events, "outcomes": found["ledgered"], "open": 0}
    return {**found, **money, "holds": right, "within_its_targets": fast}


def soak(seconds: int) -> dict[str, Any]:
    found = program("moneylab.soak", "--seconds", str(seconds))
    return {**found, "holds": found["sound"]}


def cases(tests: set[str]) -> dict[str, dict[str, Any]]:
    """The suites' tests whose names begin so, each with its fate and the figures that it left."""
    chosen = " or ".join(sorted({test.partition("[")[0] for test in tests}))
    found = {}
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        flags = ["-q", f"--junit-xml={report.name}", "-o", "junit_family=xunit1"]
        argv = [sys.executable, "-m", "pytest", *SUITES, *flags, "-k", chosen]
        subprocess.run(argv, cwd=ROOT, stdout=subprocess.DEVNULL)
        for case in ElementTree.parse(report.name).getroot().iter("testcase"):
            failed = any(child.tag in ("failure", "error", "skipped") for child in case)
            properties = {p.attrib["name"]: int(p.attrib["value"]) for p in case.iter("property")}
            found[case.attrib["name"]] = {"passed": not failed, **properties}
    return found


def row(tests: tuple[str, ...], ran: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The sum over a fault's tests."""
    mine = {name: case for name, case in ran.items() if name.startswith(tests)}
    sums = {figure: sum(case.get(figure, 0) for case in mine.values()) for figure in FIGURES}
    whole = sums["admitted"] == sums["outcomes"] + sums["open"] and sums["admitted"] > 0
    passed = bool(mine) and all(case["passed"] for case in mine.values())
    return {
        **sums,
        "holds": passed and whole and sums["lost"] == sums["double"] == 0,
        "tests": {name: "passed" if case["passed"] else "failed" for name, case in mine.items()},
    }


LABS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "kill -9 at random moments, 64 callers": lambda options: kills("--lives", str(options.lives)),
    "kill -9 during recovery": lambda _: kills("--lives", "0", "--recoveries", "50"),
    "kill -9 at every named point": lambda _: kills("--lives", "0", "--points", "5"),
    "kill -9 of the plane": lambda _: kills("--lives", "0", "--planes", "20"),
    "plane away for a day of events, then drained": lambda options: outage(options.events),
    "mixed load, a random fault every 5 s": lambda options: soak(options.soak),
}
MUTATION = "safeguards taken away, one at a time"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument(
        "--soak", type=int, default=1200, help="seconds; of memory the last half less its warm-up"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    parser.add_argument(
        "--only", nargs="*", help="faults that contain one of these words; others stay as they are"
    )
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.json.read_text()) if options.only else {}
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}"

    def note(fault: str, figures: dict[str, Any]) -> None:
        found[fault] = figures
        options.json.write_text(json.dumps(found, indent=2) + "\n")
        said = " ".join(f"{name}={figures[name]}" for name in FIGURES[:5] if name in figures)
        print("holds " if figures["holds"] else "BROKEN", fault, said, flush=True)

    def wanted(fault: str) -> bool:
        return not options.only or any(word in fault for word in options.only)

    for fault, run in LABS.items():
        if wanted(fault):
            note(fault, run(options))
    tested = {fault: tests for fault, tests in TESTED.items() if wanted(fault)}
    if tested:
        ran = cases({test for tests in tested.values() for test in tests})
        for fault, tests in tested.items():
            note(fault, row(tests, ran))
    if wanted(MUTATION):
        fates = program("moneylab.mutate")
        noticed = all(each["fate"] == "failed" for each in fates.values())
        note(MUTATION, {"holds": noticed, "fates": fates})
    broken = [fault for fault, figures in found.items() if fault != "machine" and not figures["holds"]]
    print(f"{len(found) - 1} rows, broken: {broken or 'none'}", flush=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()

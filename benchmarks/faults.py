"""Runs the money fault suite at full length and writes down what it found: benchmarks/results/faults.json.

    python benchmarks/faults.py [--lives 1000] [--events 1000000] [--json benchmarks/results/faults.json]

The claim under test: no client-visible completion is lost or counted twice. Every case ends with a verdict by an oracle
outside the node (tests/moneylab/oracle.py), or with the named tests that passed or failed. Takes ten to twenty minutes.
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
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUITES = {
    "disk: power cut, no space, EIO, slow sync, rot, torn file, another node's spool": (
        "tests/faults/test_money_disk.py"
    ),
    "wire: lost, forged, repeated, reordered, refused, poison, restored plane, rolled back spool": (
        "tests/faults/test_money_wire.py"
    ),
    "agent: kill -9, engine killed, frozen past its lease, callers leaving, balance to zero": (
        "tests/faults/test_money_agent.py"
    ),
    "front: the engine's stream cut at every byte, a caller of one byte at a time": (
        "tests/integration/test_front/test_every_cut.py"
    ),
}


def program(module: str, *flags: str) -> Any:
    """A lab's program; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    argv = [sys.executable, "-m", module, *flags]
    done = subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def suite(path: str) -> dict[str, Any]:
    """Every test of a file and whether it passed."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        argv = [
            sys.executable,
            "-m",
            "pytest",
            path,
            f"--junit-xml={report.name}",
            "-o",
            "junit_family=xunit2",
        ]
        subprocess.run(argv, cwd=ROOT, stdout=subprocess.DEVNULL)
        cases = ElementTree.parse(report.name).getroot().iter("testcase")
        results = {case.attrib["name"]: "failed" if len(case) else "passed" for case in cases}
    return {
        "passed": sum(fate == "passed" for fate in results.values()),
        "of": len(results),
        "cases": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    parser.add_argument(
        "--only", nargs="*", help="cases that contain one of these words; others stay as they are"
    )
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.json.read_text()) if options.only else {}
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}"

    def note(case: str, figures: Any) -> None:
        found[case] = figures
        options.json.write_text(json.dumps(found, indent=2) + "\n")
        print(case, json.dumps(figures)[:200], file=sys.stderr, flush=True)

    cases: dict[str, Callable[[], Any]] = {
        "kill -9 at random moments, 64 callers": lambda: program(
            "moneylab.kills", "--lives", str(options.lives)
        ),
        "kill -9 at every named point": lambda: program("moneylab.kills", "--lives", "0", "--points", "5"),
        "kill -9 of the plane": lambda: program("moneylab.kills", "--lives", "0", "--planes", "20"),
        "plane away, then drained": lambda: program("moneylab.outage", "--events", str(options.events)),
        **{case: partial(suite, path) for case, path in SUITES.items()},
        "safeguards taken away, one at a time": lambda: program("moneylab.mutate"),
    }
    for case, run in cases.items():
        if not options.only or any(word in case for word in options.only):
            note(case, run())


if __name__ == "__main__":
    main()

"""Takes one safeguard away at a time and expects the suite to notice: `python -m moneylab.mutate`.

A mutant is a copy of the package with one line changed. It is noticed where a test fails: none of these safeguards is
there against a standstill, so a suite that hangs says nothing of it. Any other fate, in capitals, is a hole in the
suite or in the table, and makes the exit status 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from moneylab.safeguards import ACCESS, DISK, FRONT, MUTANTS, PLANE, SPOOL, WIRE, Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "agent" / "pareta_agent"
TEST_S, SUITE_S = 100, 600.0
NOTICED = "failed"
NOTHING = Mutant(
    "anything",
    "clock.py",
    "class SystemClock:",
    "class SystemClock:",
    (DISK, WIRE, SPOOL, PLANE, ACCESS, FRONT),
    slow=True,
)


def fate(code: int | None, said: str) -> tuple[str, str]:
    """What became of a mutant and which test noticed, from how pytest ended (None: at its limit) and what it said."""
    first = re.search(r"^(?:FAILED|ERROR) (?:\S*::)?(\S+)(?: - (\w+))?", said, re.MULTILINE)
    by, error = (first[1], first[2]) if first else ("", None)
    if code is None or (code == 1 and "from pytest-timeout" in said):
        return "HUNG", by
    if code not in (0, 1) or error in ("NameError", "SyntaxError", "ImportError"):
        return "NO CODE", by  # what stands there instead was never run
    return NOTICED if code else "SURVIVED", by


def taken_away(mutant: Mutant, within_s: float = SUITE_S) -> tuple[str, str]:
    """Its fate."""
    source = (PACKAGE / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        return "NOT FOUND", ""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "pareta_agent"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / mutant.file).write_text(source.replace(mutant.old, mutant.new))
        marked = () if mutant.slow else ("-m", "not slow")
        options = (*marked, "-x", "-q", f"--timeout={TEST_S}", "-p", "no:cacheprovider")
        environment = {**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, "-m", "pytest", *options, *mutant.tests]
        try:
            done = subprocess.run(
                argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=within_s
            )
        except subprocess.TimeoutExpired:
            return fate(None, "")
    return fate(done.returncode, done.stdout)


def main() -> None:
    wanted = sys.argv[1:]
    if taken_away(NOTHING, within_s=900.0)[0] != "SURVIVED":
        sys.exit("the suite fails on the package as it is")
    fates = {}
    for mutant in MUTANTS:
        if wanted and not any(word in mutant.without for word in wanted):
            continue
        found, by = taken_away(mutant)
        fates[mutant.without] = {"fate": found, "by": by}
        print(f"{found:10} without {mutant.without} ({by})", file=sys.stderr, flush=True)
    print(json.dumps(fates, indent=2))
    sys.exit(0 if {each["fate"] for each in fates.values()} == {NOTICED} else 1)


if __name__ == "__main__":
    main()

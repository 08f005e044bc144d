"""Does a free text find its task? Phrasings over sixteen tasks, 84 of them not written yet when settings were chosen.

`python benchmarks/match.py [--write FILE]` prints one JSON object; exit 1 when the held-out part is under the limits.
The phrasings were written beside the tasks, by the same hand: strangers will be further from the catalog's words.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pareta_agent.plane.tasks.match import Matcher, verdict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from catalogs import sixteen_tasks

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
TOP1, UNSUPPORTED_PRECISION = 0.85, 0.9


def phrasings(held_out: bool) -> list[dict[str, Any]]:
    lines = (DATA / "phrasings.jsonl").read_text().splitlines()
    return [found for line in lines if (found := json.loads(line))["held_out"] == held_out]


def figures(matcher: Matcher, asked: list[dict[str, Any]]) -> dict[str, Any]:
    """`top1`: of the covered questions, how many have their task chosen. `unsupported_precision`: of those called
    unsupported, how many no task covers; `refused` counts those for which no task is chosen, whatever it is called."""
    said = []
    for each in asked:
        ranked = matcher.ranked(each["query"])
        kind = verdict(ranked)
        said.append((each["task"], ranked[0].task if kind == "task" else kind))
    covered = [pair for pair in said if pair[0] is not None]
    foreign = [got for want, got in said if want is None]
    unsupported = [want for want, got in said if got == "unsupported"]
    return {
        "covered": len(covered),
        "foreign": len(foreign),
        "top1": round(sum(want == got for want, got in covered) / len(covered), 3),
        "unsupported_said": len(unsupported),
        "unsupported_precision": round(unsupported.count(None) / len(unsupported), 3),
        "foreign_refused": round(sum(got in ("unsupported", "none") for got in foreign) / len(foreign), 3),
        "wrong": [
            {"query": each["query"], "task": want, "said": got}
            for each, (want, got) in zip(asked, said, strict=True)
            if got not in ((want,) if want else ("unsupported", "none"))
        ],
    }


def measure() -> dict[str, Any]:
    catalog = sixteen_tasks()
    begun_s = time.perf_counter()
    matcher = Matcher(catalog)
    made_s = time.perf_counter() - begun_s
    times_s = []
    for each in phrasings(True):
        begun_s = time.perf_counter()
        matcher.ranked(each["query"])
        times_s.append(time.perf_counter() - begun_s)
    return {
        "tasks": len(catalog),
        "bm25s": version("bm25s"),
        "snowballstemmer": version("snowballstemmer"),
        "limits": {"top1": TOP1, "unsupported_precision": UNSUPPORTED_PRECISION},
        "tuned_on": figures(matcher, phrasings(False)),
        "held_out": figures(matcher, phrasings(True)),
        "index_ms": round(made_s * 1000, 1),
        "question_median_ms": round(statistics.median(times_s) * 1000, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    found = measure()
    text = json.dumps(found, indent=2) + "\n"
    if options.write:
        options.write.write_text(text)
    print(text, end="")
    held = found["held_out"]
    sys.exit(held["top1"] < TOP1 or held["unsupported_precision"] < UNSUPPORTED_PRECISION)


if __name__ == "__main__":
    main()

"""Kills, freezes and stops real engines, and writes down what was left: benchmarks/results/engine_faults.json.

    python benchmarks/engine_faults.py [--rounds 50] [--moments 20] [--only WORD…] [--json FILE]

The claim under test: whatever happens to an engine's processes or to its agent, nothing stays behind (process, file,
shared memory), callers in flight hear an answer or a typed error within two seconds, and the ledger is what they saw.
vLLM on the CPU; the fork bomb is the fake engine's. One row a fault (tests/enginelab). About twenty minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.load import builtin_catalog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from enginelab import node as nodes
from enginelab import starts
from enginelab.bomb import bomb

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
LATEST_S = 22.0
"""Within this time after its start a node's first engine is live here."""
CASES = ((0, starts.PLAIN), (1, starts.FORKED))
Rows = AsyncIterator[dict[str, Any]]


async def under_load(root: Path, python: Path, options: argparse.Namespace) -> Rows:
    """One node: its engine's processes are killed and frozen, then its agent is."""
    async with nodes.node(root / "load", python) as made:
        ready = await made.ready()
        key = ready["api_key"]
        await made.warm()
        hits = [(role, signal.SIGKILL) for role in sorted(made.engine().members)]
        for role, number in [*hits, ("core", signal.SIGSTOP)]:
            yield await nodes.engine_fault(made, ready, key, role, number)
            if role != "tracker":
                await made.warm()
        yield await nodes.agent_kills(made, ready, key, options.rounds)


async def while_starting(root: Path, python: Path, _options: argparse.Namespace) -> Rows:
    """Each process in each phase, plainly and from a standby."""
    store = WeightsStore(WeightsSettings(root / "weights", CACHE / "artifacts"))
    model = await store.fetch(builtin_catalog().models[0].variants[0], lambda _: None)
    for standby, cases in CASES:
        async with starts.real_room(root / f"starts{standby}", python, standby) as made:
            for row in await starts.kills(made, model, cases):
                yield row


async def stopped(root: Path, python: Path, options: argparse.Namespace) -> Rows:
    """SIGTERM at moments spread over the start, half of the nodes without a standby."""
    draw = random.Random(3)
    for standby, count in (("1", options.moments // 2), ("0", options.moments - options.moments // 2)):
        moments_s = [(at + draw.random()) * LATEST_S / count for at in range(count)]
        yield await nodes.stops(root / "stops", python, moments_s, PARETA_ENGINE_STANDBY=standby)


async def bombed(root: Path, _python: Path, _options: argparse.Namespace) -> Rows:
    (root / "bomb").mkdir()
    yield await bomb(root / "bomb")


KINDS = {"bomb": bombed, "load": under_load, "starts": while_starting, "stops": stopped}


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    python = options.python or next(CACHE.glob("engines/cpu-*/bin/python"))
    with tempfile.TemporaryDirectory(prefix="ef") as place:
        for name, kind in KINDS.items():
            if options.only and name not in options.only:
                continue
            async for row in kind(Path(place), python, options):
                rows.append({"kind": name, **row})
                print("holds " if row["holds"] else "BROKEN", json.dumps(row), flush=True)
    return rows


def kept(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the kinds that are not measured anew."""
    if not options.only:
        return []
    return [row for row in json.loads(options.json.read_text())["rows"] if row["kind"] not in options.only]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, help="the engine's interpreter; default: the one in the cache")
    parser.add_argument("--rounds", type=int, default=50, help="how often the agent is killed")
    parser.add_argument("--moments", type=int, default=20, help="how many starts are stopped")
    parser.add_argument(
        "--only", nargs="*", choices=KINDS, help="these kinds of faults anew; other rows stay"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "engine_faults.json")
    options = parser.parse_args()
    rows = asyncio.run(run(options))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}"
    broken = [row["fault"] for row in rows if not row["holds"]]
    document = {"machine": machine, "rows": [*kept(options), *rows]}
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{len(rows)} rows, broken: {broken or 'none'}", flush=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()

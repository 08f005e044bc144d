"""What does durable metering cost? Requests per second, CPU per request and time until durable: off, on, slow disk.

    python benchmarks/metering.py [--seconds 3] [--rounds 5] [--json benchmarks/results/metering.json]

A request here is what the front does with the spool and nothing else: admit, a turn of the loop, finish, wait until
the record is on disk. "Off" is the same without the spool, so the difference is the meter's. Modes alternate within a
round; CPU is the whole process's (writer thread included), medians over rounds. `tokens` are 64 streams of 50 tokens,
20 ms apart: what of the time between two tokens is the meter's, and how long a stream's end waits for its record.
`workers` have no pause, so that the process is always busy: there a wait is mostly the others' work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from moneylab.disk import Disk

from pareta_agent.clock import SystemClock
from pareta_agent.contract.usage_record import Admission, Outcome, Tokens, UsageRecord
from pareta_agent.meter.settings import SpoolSettings
from pareta_agent.meter.spool import Spool

SLOW_SYNC_S = 0.01
STREAMS, TOKENS, GAP_S = 64, 50, 0.02
One = Callable[[int], Awaitable[None]]


def record(number: int) -> UsageRecord:
    admission = Admission(
        f"req_{number:020}",
        "org_local",
        "key_1",
        "ep_a",
        "task",
        "alias-1",
        "/v1/chat/completions",
        True,
        1.7e9,
    )
    return UsageRecord(
        admission, Outcome.COMPLETED, "engine_final", Tokens(300, 0, 120), ("stop",), 1, 0, 0.1, 2.5
    )


async def load(one: One, workers: int, seconds: float) -> dict[str, float]:
    """Runs `one` again and again from that many tasks."""
    waits: list[float] = []
    numbers = iter(range(10**12))
    end_s = time.perf_counter() + seconds

    async def worker() -> None:
        while time.perf_counter() < end_s:
            started_s = time.perf_counter()
            await one(next(numbers))
            waits.append(time.perf_counter() - started_s)

    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(workers)))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    waits.sort()
    return {
        "requests_per_s": len(waits) / wall_s,
        "cpu_us_per_request": cpu_s / len(waits) * 1e6,
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[len(waits) * 99 // 100] * 1e3,
    }


async def paced(spool: Spool | None, seconds: float) -> dict[str, float]:
    """Streams that begin and end all the time: gaps between tokens, and what an end waits for its record."""
    gaps: list[float] = []
    ends: list[float] = []
    numbers = iter(range(10**12))
    end_s = time.perf_counter() + seconds

    async def stream(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while time.perf_counter() < end_s:
            each = record(next(numbers))
            if spool is not None:
                spool.admit(each.admission)
            last_s = time.perf_counter()
            for _ in range(TOKENS):
                await asyncio.sleep(GAP_S)
                now_s = time.perf_counter()
                gaps.append(now_s - last_s)
                last_s = now_s
            if spool is not None:
                await spool.finish(each)
            ends.append(time.perf_counter() - last_s)

    await asyncio.gather(*(stream(n * GAP_S * TOKENS / STREAMS) for n in range(STREAMS)))
    gaps.sort()
    ends.sort()
    return {
        "gap_p50_ms": gaps[len(gaps) // 2] * 1e3,
        "gap_p99_ms": gaps[len(gaps) * 99 // 100] * 1e3,
        "end_p50_ms": ends[len(ends) // 2] * 1e3,
        "end_p99_ms": ends[len(ends) * 99 // 100] * 1e3,
    }


async def off(number: int) -> None:
    """The work of the request without the meter: making the record, a turn of the loop."""
    record(number)
    await asyncio.sleep(0)


def metered(spool: Spool) -> One:
    async def one(number: int) -> None:
        each = record(number)
        spool.admit(each.admission)
        await asyncio.sleep(0)
        await spool.finish(each)

    return one


async def measure(workers: int, seconds: float, rounds: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": [], "slow disk": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as home:
            disk = Disk(f"slow-{workers}-{number}", keeps_images=False)
            disk.sync_takes_s = SLOW_SYNC_S
            found["off"].append(await load(off, workers, seconds / 3))
            for mode, vfs in (("on", None), ("slow disk", disk.name)):
                settings = SpoolSettings("n", reserve_bytes=4096, disk_reserve_bytes=0, vfs=vfs)
                spool = Spool.open(Path(home) / mode / "spool.db", settings, SystemClock())
                await spool.begin_epoch(1)
                found[mode].append(await load(metered(spool), workers, seconds))
                spool.close()
    names = found["on"][0]
    result: dict[str, Any] = {
        mode: {name: round(statistics.median(each[name] for each in runs), 2) for name in names}
        for mode, runs in found.items()
    }
    result["meter_cpu_us_per_request"] = round(
        statistics.median(
            on["cpu_us_per_request"] - off_["cpu_us_per_request"]
            for on, off_ in zip(found["on"], found["off"], strict=True)
        ),
        2,
    )
    return result


async def between_tokens(seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    """Gaps and ends without the meter, with it, and with it on a slow disk; medians over rounds."""
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": [], "slow disk": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as home:
            disk = Disk(f"slow-tokens-{number}", keeps_images=False)
            disk.sync_takes_s = SLOW_SYNC_S
            found["off"].append(await paced(None, seconds))
            for mode, vfs in (("on", None), ("slow disk", disk.name)):
                settings = SpoolSettings("n", reserve_bytes=4096, disk_reserve_bytes=0, vfs=vfs)
                spool = Spool.open(Path(home) / mode / "spool.db", settings, SystemClock())
                await spool.begin_epoch(1)
                found[mode].append(await paced(spool, seconds))
                spool.close()
    return {
        mode: {name: round(statistics.median(each[name] for each in runs), 2) for name in runs[0]}
        for mode, runs in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "load_average_before": round(os.getloadavg()[0], 1),
        "slow_sync_ms": SLOW_SYNC_S * 1e3,
        "workers": {
            str(workers): uvloop.run(measure(workers, options.seconds, options.rounds))
            for workers in (1, 64, 256)
        },
        "tokens": uvloop.run(between_tokens(options.seconds, options.rounds)),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

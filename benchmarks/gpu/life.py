"""An engine's life on the device: first right answer, cold starts, a kill, sleep and waking, and what is given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

from cold_start import CANARY, Bench
from ground import Ground

from pareta_agent.engine.process.engine_process import marked
from pareta_agent.engine.process.run_dir import run_dir_of
from pareta_agent.engine.vllm import client
from pareta_agent.hardware.nvml import read_inventory

SLACK_BYTES = 512 * 1024**2
WARM_S = 120.0
NIGHTS = 3


async def canary(ground: Ground) -> dict[str, Any]:
    """The small model's known question, asked of a live engine: right is what every start must be."""
    bench = ground.bench()
    try:
        live_s = await bench.deploy()
        generation = bench.fleet.view().endpoints["ep_bench"].replicas[0].generation
        socket = run_dir_of(bench.settings, "ep_bench", 0, generation).socket
        begun_s = time.monotonic()
        answer = await client.send_canary(socket, "ep_bench", CANARY, 60.0)
        seconds = round(time.monotonic() - begun_s, 3)
    finally:
        await bench.fleet.close(5)
    told = {"question": CANARY.prompt, "answer": answer.text, "passed": answer.passed}
    return {**told, "answer_s": seconds, "live_s": round(live_s, 2)}


async def cold_start(ground: Ground) -> dict[str, Any]:
    """Seconds until the first right answer, with the phases: with empty caches, then plain and from a standby that
    waits, both with what the first start left in them.
    """
    found = {}
    for name, standby in (("first", 0), ("plain", 0), ("from_standby", 1)):
        bench = ground.bench(standby)
        try:
            if standby:
                await _warmed(ground, bench)
            seconds = await bench.deploy()
        finally:
            await bench.fleet.close(5)
        report = bench.reports[-1]
        phases = {phase: round(spent, 2) for phase, spent in report.phases.items()}
        row = {"live_s": round(seconds, 2), "standby": report.standby, "phases_s": phases}
        found[name] = {**row, **_of_standby(bench)} if standby else row
    return found


def _of_standby(bench: Bench) -> dict[str, Any]:
    """What one costs while it waits; why it was not used; whether an engine made of one died (its log says of what)."""
    taken = [event.fields["memory_bytes"] for event in bench.said("standby_taken")]
    refused = [event.fields["reason"] for event in bench.said("standby_failed")]
    died = any(start.standby for start in bench.reports[:-1])
    return {"standby_bytes": taken[0] if taken else None, "refused": refused, "died": died}


async def _warmed(ground: Ground, bench: Bench) -> None:
    """Until a standby waits, or it is clear that none will."""
    await bench.fleet.standbys.warm(bench.fleet.settings, ground.small)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WARM_S):
            await bench.warm()


async def kill_sleep_wake(ground: Ground) -> dict[str, Any]:
    """kill -9 of a live engine, its next generation, then sleep and wake; what is left after each end."""
    before = _free(ground)
    bench = ground.bench()
    try:
        await bench.deploy()
        found: dict[str, Any] = {"live": {"taken_bytes": _held(ground, before)}}
        watch = asyncio.create_task(_least_held(ground, before))
        found["kill"] = {"live_again_s": round(await bench.kill(), 2)}
        watch.cancel()
        found["kill"]["least_held_bytes"] = await watch
        await bench.fleet.sleep("ep_bench")
        found["sleep"] = await _given_back(ground, bench, before)
        found["wake"] = {"live_s": await _woken(bench)}
    finally:
        await bench.fleet.close(5)
    return found | {"end": await _given_back(ground, bench, before)}


async def sleep_resume(ground: Ground) -> dict[str, Any]:
    """Sleep with the weights in host memory: what is kept of the device, how long lying down and waking take until the
    right answer, and a start after the engine was stopped, beside it.
    """
    before = _free(ground)
    bench = ground.bench()
    bench.spec = replace(bench.spec, may_sleep=lambda: True)
    try:
        await bench.deploy()
        found: dict[str, Any] = {"live": {"taken_bytes": _held(ground, before)}}
        found["nights"] = [await _night(ground, bench, before) for _ in range(NIGHTS)]
        await bench.fleet.sleep("ep_bench")
        found["stopped"] = await _given_back(ground, bench, before)
        found["wake_s"] = await _woken(bench)
    finally:
        await bench.fleet.close(5)
    return found | {"end": await _given_back(ground, bench, before)}


async def _night(ground: Ground, bench: Bench, before: int | None) -> dict[str, Any]:
    begun_s, slept = time.monotonic(), len(bench.said("engine_slept"))
    await bench.fleet.sleep("ep_bench", keep=True)
    async with asyncio.timeout(WARM_S):
        while len(bench.said("engine_slept")) == slept:
            await asyncio.sleep(0.02)
    told = {"asleep_s": round(time.monotonic() - begun_s, 2), "kept_bytes": _held(ground, before)}
    told["resume_s"] = await _woken(bench)
    report = bench.reports[-1]
    return {**told, "cause": report.cause, "phases_s": {k: round(v, 2) for k, v in report.phases.items()}}


async def _woken(bench: Bench) -> float:
    begun_s = time.monotonic()
    bench.fleet.wake("ep_bench")
    await bench.until("live")
    return round(time.monotonic() - begun_s, 2)


async def _least_held(ground: Ground, before: int | None) -> int | None:
    """The least that was held until it is cancelled: near nothing shows that a killed engine's memory came back."""
    seen: list[int] = []
    try:
        while True:
            if (held := await asyncio.to_thread(_held, ground, before)) is not None:
                seen.append(held)
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return min(seen, default=None)


def _free(ground: Ground) -> int | None:
    """Free bytes of the GPU that the steps use. A host's memory moves with everybody on it, so without a GPU: None."""
    return read_inventory().gpus[0].memory_free_bytes if ground.cuda else None


def _held(ground: Ground, before: int | None) -> int | None:
    now = _free(ground)
    return None if before is None or now is None else before - now


async def _given_back(
    ground: Ground, bench: Bench, before: int | None, deadline_s: float = 30.0
) -> dict[str, Any]:
    """Polls until memory is back and no process carries our marker; what is still held at the deadline."""
    begun_s = time.monotonic()
    while True:
        held, processes = _held(ground, before), len(marked(bench.settings.home_id))
        back = processes == 0 and (held or 0) <= SLACK_BYTES
        if back or time.monotonic() - begun_s > deadline_s:
            seconds = round(time.monotonic() - begun_s, 2)
            return {"back": back, "seconds": seconds, "held_bytes": held, "processes": processes}
        await asyncio.sleep(0.2)

"""Load on the small model: what the agent adds to the engine at several numbers of streams, and a curve to saturation.

Both through a whole agent as its users have it, the engine straight on its socket beside it, in one run.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chart
import yaml
from ground import Ground
from loadgen import client
from overhead import engine_socket, figures, rounds, serve, summarize

from pareta_registry.load import builtin_catalog

TOKENS = 128
BUDGET_S = 400.0
"""Of a step's eight minutes: past it no further point is begun."""
UNANSWERED = (SystemExit, OSError, EOFError)
"""How the load client says that calls were refused or cut: what was measured before is still worth keeping."""
_GAIN = 1.05
_PATIENCE = 2


@asynccontextmanager
async def agent(ground: Ground, **more: str) -> AsyncIterator[tuple[dict[str, Any], str]]:
    """`pareta-agent serve` on the small model, with `more` settings: its ready event and the engine's socket."""
    home = ground.root / "home"
    home.mkdir()
    settings = {
        "PARETA_ENGINE_PYTHON": str(ground.python),
        "PARETA_REGISTRY_CATALOG": str(_catalog(ground)),
        "PARETA_PLANE_BALANCE_USD": "1000000",
        **more,
    }
    process, ready = serve("vllm", home, **settings)
    try:
        yield ready, engine_socket(home)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _catalog(ground: Ground) -> Path:
    """The built-in catalog, with the small model's directory as its only source."""
    model = builtin_catalog().models[0]
    variant = model.variants[0].model_copy(update={"source": ground.weights.resolve().as_uri()})
    documents = [*builtin_catalog().tasks, model.model_copy(update={"variants": (variant,)})]
    written = [{"kind": one.kind} | one.model_dump(mode="json", exclude_defaults=True) for one in documents]
    folder = ground.root / "catalog"
    folder.mkdir()
    (folder / "all.yaml").write_text(yaml.safe_dump(written))
    return folder


async def overhead(ground: Ground) -> dict[str, Any]:
    """Time to first token, between tokens and tokens a second, agent and engine alternating, by streams."""
    return await _overhead(ground, (1, 32, 256) if ground.cuda else (1, 4, 16))


async def overhead_workers(ground: Ground) -> dict[str, Any]:
    """The same at the most streams, where callers have processes of their own; the CPU is the main process's alone."""
    workers, streams = (4, 256) if ground.cuda else (1, 16)
    found = await _overhead(ground, (streams,), PARETA_FRONT_WORKERS=str(workers))
    return {"front_workers": workers, **found}


async def _overhead(ground: Ground, numbers: tuple[int, ...], **settings: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    begun_s = time.monotonic()
    async with agent(ground, **settings) as (ready, socket):
        for streams in numbers:
            if time.monotonic() - begun_s > BUDGET_S:
                found["left_out"] = f"{streams} streams: no time"
                break
            asked = argparse.Namespace(
                rounds=3 if ground.cuda else 2,
                connections=streams,
                requests=max(8 if ground.cuda else 4, 2 * streams),
                tokens=TOKENS if ground.cuda else 32,
            )
            row: dict[str, Any] = {"load": vars(asked)}
            try:
                rows = await rounds(asked, ready, socket)
                row |= {"summary": summarize(rows), "rows": rows}
            except UNANSWERED as error:
                row["failed"] = f"{type(error).__name__}: {error}"
            found[f"streams_{streams}"] = row
    return found


async def curve(ground: Ground) -> dict[str, Any]:
    """Ever more streams through the agent until two steps in a row bring less than 5 % more tokens a second.

    `client_cpu_ratio` near 1 says that it was the client that could not hear faster.
    """
    points: list[dict[str, Any]] = []
    found: dict[str, Any] = {"tokens": TOKENS if ground.cuda else 32}
    begun_s = time.monotonic()
    async with agent(ground) as (ready, _socket):
        for streams in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
            if time.monotonic() - begun_s > BUDGET_S or saturated(points):
                break
            try:
                points.append(await _point(ready, streams, found["tokens"]))
            except UNANSWERED as error:
                found["failed"] = f"{streams} streams: {type(error).__name__}: {error}"
                break
    dots = [(one["tokens_per_s"], one["inter_token_p50_s"] * 1000, str(one["streams"])) for one in points]
    across = f"tokens a second ({', '.join(ground.circumstances()['device'])}; labels: streams)"
    if dots:
        chart.draw(dots, across, "ms between tokens, median", ground.root / "curve.svg")
    return {**found, "saturated": saturated(points), "points": points}


async def _point(ready: Mapping[str, Any], streams: int, tokens: int) -> dict[str, Any]:
    url, model, key = urlsplit(ready["base_url"]), ready["endpoints"][0]["id"], ready["api_key"]

    def ask(number: int) -> bytes:
        return client.request(model, key, f"{streams} {number}: count from this number on.", tokens)

    before_s = time.process_time()
    seen = await client.run(client.at((url.hostname or "", url.port or 0)), ask, streams, max(4, 2 * streams))
    cpu_ratio = (time.process_time() - before_s) / seen.wall_s
    rounded = {name: round(value, 6) for name, value in figures(seen).items()}
    return {"streams": streams, **rounded, "client_cpu_ratio": round(cpu_ratio, 3)}


def saturated(points: list[dict[str, Any]]) -> bool:
    """Whether the last steps brought next to nothing."""
    rates = [point["tokens_per_s"] for point in points]
    return len(rates) > _PATIENCE and max(rates[-_PATIENCE:]) < _GAIN * max(rates[:-_PATIENCE])

"""Load on the small model: what the agent adds to the engine at several numbers of streams, and a curve to saturation.

Both through a whole agent as its users have it, the engine straight on its socket beside it, in one run.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import AsyncIterator
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
_GAIN = 1.05
_PATIENCE = 2


@asynccontextmanager
async def agent(ground: Ground) -> AsyncIterator[tuple[dict[str, Any], str]]:
    """`pareta-agent serve` on the small model: its ready event and the engine's socket."""
    home = ground.root / "home"
    home.mkdir()
    settings = {
        "PARETA_ENGINE_PYTHON": str(ground.python),
        "PARETA_REGISTRY_CATALOG": str(_catalog(ground)),
        "PARETA_PLANE_BALANCE_USD": "1000000",
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
    found: dict[str, Any] = {}
    begun_s = time.monotonic()
    async with agent(ground) as (ready, socket):
        for streams in (1, 32, 256) if ground.cuda else (1, 4, 16):
            if time.monotonic() - begun_s > BUDGET_S:
                found["left_out"] = f"{streams} streams: no time"
                break
            asked = argparse.Namespace(
                rounds=3 if ground.cuda else 2,
                connections=streams,
                requests=max(8 if ground.cuda else 4, 2 * streams),
                tokens=TOKENS if ground.cuda else 32,
            )
            rows = await rounds(asked, ready, socket)
            found[f"streams_{streams}"] = {"load": vars(asked), "summary": summarize(rows), "rows": rows}
    return found


async def curve(ground: Ground) -> dict[str, Any]:
    """Ever more streams through the agent until two steps in a row bring less than 5 % more tokens a second."""
    points: list[dict[str, Any]] = []
    begun_s, tokens = time.monotonic(), TOKENS if ground.cuda else 32
    async with agent(ground) as (ready, _socket):
        url = urlsplit(ready["base_url"])
        opener = client.at((url.hostname or "", url.port or 0))
        model, key = ready["endpoints"][0]["id"], ready["api_key"]
        for streams in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
            if time.monotonic() - begun_s > BUDGET_S or saturated(points):
                break

            def ask(number: int, streams: int = streams) -> bytes:
                return client.request(model, key, f"{streams} {number}: count from this number on.", tokens)

            seen = await client.run(opener, ask, streams, max(4, 2 * streams))
            points.append({"streams": streams, **{k: round(v, 6) for k, v in figures(seen).items()}})
    dots = [(one["tokens_per_s"], one["inter_token_p50_s"] * 1000, str(one["streams"])) for one in points]
    across = f"tokens a second ({', '.join(ground.circumstances()['device'])}; labels: streams)"
    chart.draw(dots, across, "ms between tokens, median", ground.root / "curve.svg")
    return {"tokens": tokens, "saturated": saturated(points), "points": points}


def saturated(points: list[dict[str, Any]]) -> bool:
    """Whether the last steps brought next to nothing."""
    rates = [point["tokens_per_s"] for point in points]
    return len(rates) > _PATIENCE and max(rates[-_PATIENCE:]) < _GAIN * max(rates[:-_PATIENCE])

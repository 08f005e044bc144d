"""What the public API must do for the `pareta` SDK, whatever engine is behind: imported by the tiers that bring one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pareta
import pytest

TASK = "contract-key-fields"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
LIVE_WITHIN_S = 180.0


def command(root: str, key: str, *argv: str, code: int = 0) -> str:
    """What the SDK's own command says: its output, or of a failure that is wanted (`code`) its complaint."""
    env = {"PARETA_API_KEY": key, "PARETA_BASE_URL": root, "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    pareta_command = Path(sys.executable).with_name("pareta")
    done = subprocess.run([pareta_command, *argv], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def operates(client: pareta.Pareta) -> None:
    """One endpoint from deploy to delete, by every method of the sync client."""
    endpoint = client.endpoints.deploy(task=TASK, name="operated", wait=True)
    assert endpoint.is_live
    ask = {"model": endpoint.id, "messages": QUESTION, "max_tokens": 16, "temperature": 0}
    assert "Paris" in client.chat.completions.create(**ask).choices[0].message.content
    assert endpoint.id in [model.id for model in client.models.list()]
    with pytest.raises(pareta.ConflictError):
        client.endpoints.deploy(task=TASK, name="operated", wait=True)
    assert client.endpoints.stop(endpoint.id)["status"] == "stopped"
    with pytest.raises(pareta.EndpointNotReadyError, match="stopped"):
        client.chat.completions.create(**ask)
    client.endpoints.start(endpoint.id)
    _wait_live(client, endpoint.id)
    assert "Paris" in client.chat.completions.create(**ask).choices[0].message.content
    metrics = client.endpoints.metrics(endpoint.id)
    for read in (metrics.performance, metrics.uptime, metrics.cost, metrics.quality, metrics.activity):
        assert read(window="1h")["endpoint"] == endpoint.id
    client.endpoints.delete(endpoint.id)
    # While its engine still ends, the node knows it as stopped.
    with pytest.raises((pareta.NotFoundError, pareta.EndpointNotReadyError)):
        client.chat.completions.create(**ask)
    assert endpoint.id not in [each.id for each in client.endpoints.list()]


async def operates_async(client: pareta.AsyncPareta) -> None:
    """The same by the async client."""
    events = [event async for event in await client.endpoints.deploy(task=TASK, name="operated-async")]
    assert events[-1]["event"] == "complete"
    endpoint = await client.endpoints.retrieve(events[-1]["data"]["endpoint"]["id"])
    ask: dict[str, Any] = {"model": endpoint.id, "messages": QUESTION, "max_tokens": 16, "temperature": 0}
    assert "Paris" in (await client.chat.completions.create(**ask)).choices[0].message.content
    chunks = await client.chat.completions.create(**ask, stream=True)
    text = [chunk.choices[0].delta.content or "" async for chunk in chunks]
    assert "Paris" in "".join(text)
    assert endpoint.id in [model.id for model in await client.models.list()]
    await client.endpoints.stop(endpoint.id)
    with pytest.raises(pareta.EndpointNotReadyError):
        await client.chat.completions.create(**ask)
    await client.endpoints.start(endpoint.id)
    metrics = client.endpoints.metrics(endpoint.id)
    for read in (metrics.performance, metrics.uptime, metrics.cost, metrics.quality, metrics.activity):
        assert (await read())["endpoint"] == endpoint.id
    await client.endpoints.delete(endpoint.id)
    assert endpoint.id not in [each.id for each in await client.endpoints.list()]


def _wait_live(client: pareta.Pareta, endpoint: str) -> None:
    deadline = time.monotonic() + LIVE_WITHIN_S
    while not client.endpoints.retrieve(endpoint).is_live:
        assert time.monotonic() < deadline
        time.sleep(0.1)

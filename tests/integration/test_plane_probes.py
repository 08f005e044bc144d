"""The plane's probes, of the program that several nodes share and of the one beside a node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from harness import AGENT, environment

from pareta_agent.clock import SystemClock
from pareta_agent.plane import probes
from pareta_agent.plane.plane import Plane
from pareta_agent.plane.store.database import Database

PROGRAMS = {
    "plane serve": [*AGENT, "plane", "serve", "--port", "0"],
    "embedded": [sys.executable, "-m", "pareta_agent.plane", "--port", "0"],
}


@pytest.fixture(params=PROGRAMS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    argv = [*PROGRAMS[request.param], "--home", str(tmp_path)]
    with subprocess.Popen(argv, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        process.terminate()
        process.communicate(timeout=120)


@pytest.mark.slow
def test_a_plane_has_the_probes_of_a_node(address: str) -> None:
    """Without a key; what was asked is counted by API and status, and promtool has nothing to say."""
    assert httpx.get(f"{address}/livez", timeout=120).json() == {"status": "ok"}
    ready = httpx.get(f"{address}/readyz", timeout=120)
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "reasons": []})
    assert httpx.get(f"{address}/v1/endpoints", timeout=120).status_code == 401
    assert httpx.get(f"{address}/node/v1/nodes/n/desired", timeout=120).status_code == 401
    found = httpx.get(f"{address}/metrics", timeout=120)
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "pareta_plane_ready 1.0" in found.text
    counted = dict(
        re.findall(r'^pareta_plane_requests_total\{api="(\w+)",code="401"\} (\S+)$', found.text, re.M)
    )
    assert counted == {"node": "1.0", "public": "1.0"}
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=found.content, capture_output=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


async def test_a_plane_without_its_database_is_not_ready(tmp_path: Path) -> None:
    """It lives, says why it is not ready, and its metrics are there; so it does while it stops."""
    broken = Database(f"sqlite:///{tmp_path / 'nowhere' / 'plane.db'}")
    sound = Database(f"sqlite:///{tmp_path / 'plane.db'}")
    sound.create()
    for database, stopping, reason in (
        (broken, False, "the database does not answer"),
        (sound, True, "stopping"),
    ):
        app, plane = FastAPI(), Plane.on(database, SystemClock())
        probes.mount(app, plane, database)
        if stopping:
            plane.leaving.set()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["reasons"]) == (503, [reason])
            assert (await client.get("/livez")).status_code == 200
            assert "pareta_plane_ready 0.0" in (await client.get("/metrics")).text
        database.close()

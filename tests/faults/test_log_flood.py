"""An engine that fills its log, on the disk of the spool: callers are served, and every record is kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness import Agent, fake_engine

pytestmark = pytest.mark.slow

DISK_MIB, FLOOD_MIB = 512, 640
LINE_BYTES = 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that the flood would fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_metering_goes_on_under_a_flood(small_disk: Path, tmp_path: Path) -> None:
    """More than the disk holds goes into the log; no call is refused meanwhile, and the ledger has them all."""
    flood = tmp_path / "flood"
    count = flood.with_suffix(".count")
    engine = {"PARETA_ENGINE_COMMAND": fake_engine("--flood-when", str(flood))}
    with Agent(small_disk / "home", settings=engine) as agent:
        ready = agent.ready()
        flood.touch()
        asked: list[str] = []
        with httpx.Client(headers={"Authorization": f"Bearer {ready['api_key']}"}, timeout=120) as client:
            while not count.exists() or int(count.read_text() or 0) * LINE_BYTES < FLOOD_MIB << 20:
                asked.append(call(client, ready))
        flood.unlink()
        log_bytes = sum(path.stat().st_size for path in (agent.home / "log").iterdir())
        assert log_bytes < DISK_MIB << 19
        assert {row["request_id"] for row in agent.usage()} >= set(asked)


def call(client: httpx.Client, ready: dict) -> str:
    body = {
        "model": ready["endpoints"][0]["id"],
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 4,
    }
    answer = client.post(ready["base_url"] + "/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]

"""One readiness: `/readyz`, `pareta_ready` and `pareta-agent status` never disagree."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import httpx
import pytest
from harness import Agent, engines_of

pytestmark = pytest.mark.slow


def seen(agent: Agent, root: str) -> tuple[int, list[str], float, str, list[str]]:
    """All three, once they were asked without a change in between."""
    deadline = time.monotonic() + 120
    while True:
        before, status = httpx.get(root + "/readyz", timeout=120), agent.status()
        metrics, after = (
            httpx.get(root + "/metrics", timeout=120).text,
            httpx.get(root + "/readyz", timeout=120),
        )
        if before.content == after.content:
            ready = float(metrics.split("\npareta_ready ")[1].split()[0])
            return after.status_code, after.json()["reasons"], ready, status["state"], status["reasons"]
        assert time.monotonic() < deadline


def until(asked: Callable[[], tuple[int, list[str], float, str, list[str]]], code: int) -> None:
    """Whatever is seen on the way agrees; the end is an answer with `code`."""
    deadline = time.monotonic() + 120
    while True:
        now, reasons, ready, state, told = asked()
        assert (ready, told) == (float(now == 200), reasons)
        assert (state in ("ready", "degraded")) == (now == 200), (state, reasons)
        if now == code:
            return
        assert time.monotonic() < deadline, (now, reasons)
        time.sleep(0.1)


def test_a_node_whose_only_endpoint_failed_is_not_ready_anywhere(start):
    """It was ready; its engine is killed, and given up."""
    agent = start(PARETA_ENGINE_RESTART_BUDGET="0")
    ready = agent.ready()
    for pid in engines_of(agent.home):
        os.kill(pid, signal.SIGKILL)
    root = ready["base_url"].removesuffix("/v1")
    until(lambda: seen(agent, root), 503)
    assert agent.status()["state"] == "not ready"
    shown = agent.command("status").stdout
    assert "not ready" in shown
    assert "no endpoint is live yet" in shown

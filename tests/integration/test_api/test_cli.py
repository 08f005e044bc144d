"""The SDK's own command, every verb of it that the API answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PARETA = Path(sys.executable).with_name("pareta")


@pytest.fixture
def pareta_cli(api):
    def run(*argv: str, code: int = 0, key: str | None = None) -> str:
        env = {
            "PARETA_API_KEY": key or api.key,
            "PARETA_BASE_URL": api.root,
            "PATH": "/usr/bin:/bin",
            "COLUMNS": "200",
        }
        done = subprocess.run([PARETA, *argv], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def test_tasks_and_models(pareta_cli) -> None:
    """Tables for people, JSON for scripts."""
    assert "ticket-routing" in pareta_cli("tasks", "list")
    assert json.loads(pareta_cli("--json", "tasks", "show", "icd-coding"))["id"] == "icd-coding"
    assert "invoice-fields" in pareta_cli("tasks", "match", "read supplier invoices")
    assert "unsupported" in pareta_cli("tasks", "match", "compose a piano melody")
    assert "vendor-large" in pareta_cli("tasks", "leaderboard", "icd-coding")
    assert pareta_cli("tasks", "recommended", "icd-coding").strip() == "icd-1"
    assert "ep_contract_kie" in pareta_cli("models", "list")
    assert "no task" in pareta_cli("tasks", "show", "no-such-task", code=1)
    assert "not valid" in pareta_cli("models", "list", code=2, key="pareta_sk_wrong")


def test_an_endpoint_from_deploy_to_delete(pareta_cli) -> None:
    """With a call, its metrics and its cost between."""
    said = pareta_cli("endpoints", "deploy", "--task", "review-sentiment", "--name", "by-hand")
    assert "complete" in said
    deployed: dict[str, Any] = json.loads(
        pareta_cli(
            "--json", "endpoints", "deploy", "--task", "review-sentiment", "--model", "sentiment-2", "--wait"
        )
    )
    assert (deployed["status"], deployed["model"]) == ("live", "sentiment-2")
    assert "by-hand" in pareta_cli("endpoints", "show", "ep_by_hand")
    assert "ep_by_hand" in pareta_cli("endpoints", "list")
    assert "Paris" in pareta_cli("chat", "ep_by_hand", "What is the capital of France?")
    assert "Paris" in pareta_cli("chat", "ep_by_hand", "What is the capital of France?", "--stream")
    assert "latency_ms" in pareta_cli("endpoints", "metrics", "ep_by_hand")
    assert "debit_micro_usd" in pareta_cli("endpoints", "cost", "ep_by_hand")
    assert "stopped" in pareta_cli("endpoints", "stop", "ep_by_hand")
    assert "stopped" in pareta_cli("chat", "ep_by_hand", "Are you there?", code=1)
    assert "started" in pareta_cli("endpoints", "start", "ep_by_hand")
    for endpoint in ("ep_by_hand", deployed["id"]):
        assert "deleted" in pareta_cli("endpoints", "delete", "--yes", endpoint)
    assert "no such endpoint" in pareta_cli("endpoints", "show", "ep_by_hand", code=1)

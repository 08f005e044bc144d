"""The SDK's own command, every verb of it that the API answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from api_suite import command

pytestmark = pytest.mark.slow


@pytest.fixture
def pareta_cli(api):
    def run(*argv: str, code: int = 0, key: str | None = None) -> str:
        return command(api.root, key or api.key, *argv, code=code)

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
    assert said.splitlines()[-1] == "complete ep_by_hand is live"
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


def test_an_eval_from_rows_to_results(pareta_cli, tmp_path: Path) -> None:
    """A set by hand, a run over it, and a run that makes its own."""
    rows = tmp_path / "rows.jsonl"
    row = {"input": "What is the capital of France?", "expected": "The capital of France is Paris."}
    rows.write_text(json.dumps(row) + "\n\n" + json.dumps(row) + "\n")
    made = json.loads(
        pareta_cli("--json", "evals", "sets", "create", "--task", "article-topics", "--file", str(rows))
    )
    assert made["item_count"] == 2
    assert made["id"] in pareta_cli("evals", "sets", "list")
    assert "article-topics" in pareta_cli("evals", "sets", "show", made["id"])
    said = pareta_cli("evals", "run", "--eval-set", made["id"], "--models", "topics-1", "--wait")
    assert "completed" in said
    assert "topics-1" in said
    told = pareta_cli(
        "--json",
        "evals",
        "run",
        "--task",
        "article-topics",
        "--file",
        str(rows),
        "--models",
        "topics-2",
        "--wait",
    )
    assert json.loads(told)["results"][0]["quality_mean"] == 1.0
    assert "deleted" in pareta_cli("evals", "sets", "delete", "--yes", made["id"])
    assert "no such eval set" in pareta_cli("evals", "sets", "show", made["id"], code=1)

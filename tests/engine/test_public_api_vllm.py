"""The `pareta` SDK operates an endpoint on real vLLM, by the same steps as on the fake engine."""

import json
from pathlib import Path

import pareta
import pytest
from api_suite import command, operates, operates_async
from catalogs import sixteen
from harness import Agent

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


ROWS = [
    {"input": "What is the capital of France?", "expected": "The capital of France is Paris."},
    {"input": "What is the capital of Italy?", "expected": "The capital of Italy is Rome."},
]


async def test_an_endpoint_from_deploy_to_delete(tmp_path, engine_python) -> None:
    """Live, called, stopped and refused at once, live again; two models compared; nothing runs without credit."""
    settings = {
        "PARETA_ENGINE_PYTHON": str(engine_python),
        "PARETA_REGISTRY_CATALOG": str(sixteen(tmp_path / "catalog")),
    }
    with Agent(tmp_path / "home", settings=settings) as agent:
        ready = agent.ready(timeout_s=400)
        root, first = ready["base_url"].removesuffix("/v1"), ready["endpoints"][0]["id"]
        with pareta.Pareta(api_key=ready["api_key"], base_url=root, max_retries=0, timeout=400) as client:
            client.endpoints.stop(first)  # two engines are more than a small machine holds
            operates(client)
            compares(client)
            by_command(root, ready["api_key"], tmp_path / "rows.jsonl")
        async with pareta.AsyncPareta(api_key=ready["api_key"], base_url=root, timeout=400) as client:
            await operates_async(client)
        assert agent.command("org", "create", "org_poor").returncode == 0
        poor = agent.command("keys", "create", "--org", "org_poor").stdout.strip()
        with pareta.Pareta(api_key=poor, base_url=root, max_retries=0) as client:
            with pytest.raises(pareta.InsufficientCreditsError):
                client.endpoints.deploy(task="contract-key-fields", wait=True)
            with pytest.raises(pareta.InsufficientCreditsError):
                client.chat.completions.create(model=first, messages=[{"role": "user", "content": "Hello"}])


def compares(client: pareta.Pareta) -> None:
    """An engine a model, one after the other, wished for and given back; the answers are right and paid for."""
    before = {each.id for each in client.endpoints.list()}
    run = client.evals.runs.create(
        task="passage-answers", items=ROWS, models=["grounded-1", "grounded-2"], wait=True, timeout=400
    )
    assert (run.status, run.error_detail) == ("completed", None)
    assert [(each.model_id, each.n_succeeded, each.error_count) for each in run.results] == [
        ("grounded-1", 2, 0),
        ("grounded-2", 2, 0),
    ]
    assert min(each.quality_mean for each in run.results) > 0.5
    assert run.cost_micro_usd == sum(2 * each.mean_cost_micro_usd for each in run.results) > 0
    assert {each.id for each in client.endpoints.list()} == before


def by_command(root: str, key: str, rows: Path) -> None:
    """The SDK's command line finds a task, asks a model of it, and deletes what it made."""
    assert "passage-answers" in command(root, key, "tasks", "match", "answers from a passage")
    rows.write_text("\n".join(map(json.dumps, ROWS)))
    argv = ("--task", "passage-answers", "--file", str(rows), "--models", "grounded-2", "--wait")
    told = json.loads(command(root, key, "--json", "evals", "run", *argv))
    assert told["results"][0]["n_succeeded"] == 2
    command(root, key, "evals", "sets", "delete", "--yes", told["run"]["eval_set_id"])

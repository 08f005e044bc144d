"""The `pareta` SDK on a node with real vLLM: every method of both clients, every verb of its command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pareta
import pytest
import sdk_surface
from api_suite import QUESTION, command, operates, operates_async
from catalogs import sixteen
from harness import Agent
from vendor import roster, vendor_api

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TASK = "passage-answers"
ROWS = [
    {"input": "What is the capital of France?", "expected": "The capital of France is Paris."},
    {"input": "What is the capital of Italy?", "expected": "The capital of Italy is Rome."},
]
SMALL, LARGE = b"\x89PNG small", b"\x89PNG" + bytes(5 * 2**20)


@dataclass(frozen=True)
class Node:
    """A live node; `endpoint` is the first of it."""

    agent: Agent
    root: str
    key: str
    endpoint: str

    def client(self) -> pareta.Pareta:
        return pareta.Pareta(api_key=self.key, base_url=self.root, max_retries=0, timeout=400)


@contextmanager
def node(tmp_path: Path, engine_python: Path) -> Iterator[Node]:
    with vendor_api() as vendor:
        settings = {
            "PARETA_ENGINE_PYTHON": str(engine_python),
            "PARETA_REGISTRY_CATALOG": str(sixteen(tmp_path / "catalog")),
            "PARETA_PLANE_FRONTIER": str(roster(tmp_path, vendor.server_port)),
        }
        with Agent(tmp_path / "home", settings=settings) as agent:
            ready = agent.ready(timeout_s=400)
            root = ready["base_url"].removesuffix("/v1")
            yield Node(agent, root, ready["api_key"], ready["endpoints"][0]["id"])


def test_models_are_compared(tmp_path: Path, engine_python: Path) -> None:
    """Engines that evals start one after the other, beside a vendor's model; no credit, no run."""
    with node(tmp_path, engine_python) as made:
        with made.client() as client:
            client.endpoints.stop(made.endpoint)  # two are more than a small machine holds
            discovers(client)
            compares(client)
            has_documents(client)
        without_credit(made.agent, made.root, made.endpoint)


@pytest.mark.long
async def test_every_method_and_every_verb(tmp_path: Path, engine_python: Path) -> None:
    """Live, called, stopped and refused at once, live again; models and a vendor's compared; no credit, no run."""
    with node(tmp_path, engine_python) as made:
        with sdk_surface.used() as seen:
            with made.client() as client:
                client.endpoints.stop(made.endpoint)  # two are more than a small machine holds
                operates(client)
                discovers(client)
                compares(client)
                has_documents(client)
            async with pareta.AsyncPareta(api_key=made.key, base_url=made.root, timeout=400) as client:
                await operates_async(client)
                await evaluates_async(client)
        assert set(sdk_surface.methods().values()) - seen == set()
        cli = Cli(made.root, made.key)
        by_command(cli, tmp_path / "rows.jsonl")
        assert sdk_surface.verbs() - cli.used == set()
        without_credit(made.agent, made.root, made.endpoint)


def discovers(client: pareta.Pareta) -> None:
    """Tasks with examples, a match, and who leads: open models beside a vendor's."""
    assert len(client.tasks.list()) == 16
    assert client.tasks.retrieve(TASK, examples_n=1).to_dict()["id"] == TASK
    assert client.tasks.match("answers from a passage", top_k=3).chosen.task_id == TASK
    board = client.tasks.leaderboard(TASK)
    assert client.tasks.recommended(TASK) == board.recommended == "grounded-1"
    assert [model.id for model in client.evals.frontier_models()] == ["vendor-large", "vendor-blind"]


def compares(client: pareta.Pareta) -> None:
    """An engine a model, one after the other, wished for and given back; the answers are right and paid for."""
    before = {each.id for each in client.endpoints.list()}
    made = client.evals.sets.create(task=TASK, items=ROWS, name="capitals")
    assert client.evals.sets.retrieve(made.id).item_count == 2
    assert made.id in [each.id for each in client.evals.sets.list()]
    run = client.evals.runs.create(
        eval_set=made.id,
        models=["grounded-1", "grounded-2"],
        frontier=["vendor-large"],
        wait=True,
        poll_interval=0.5,
        timeout=400,
    )
    assert (run.status, run.error_detail) == ("completed", None)
    assert [(each.model_id, each.kind, each.n_succeeded, each.error_count) for each in run.results] == [
        ("grounded-1", "open", 2, 0),
        ("grounded-2", "open", 2, 0),
        ("vendor-large", "frontier", 2, 0),
    ]
    ours, vendors = run.results[:2], run.results[2]
    assert min(each.quality_mean for each in ours) > 0.5 > vendors.quality_mean
    assert vendors.mean_cost_micro_usd == 5100
    whole = sum(2 * each.mean_cost_micro_usd for each in run.results)
    assert 0 <= run.cost_micro_usd - whole < 2 * len(run.results)  # means are cut to whole micro-dollars
    assert {each.id for each in client.endpoints.list()} == before
    client.evals.sets.delete(made.id)


def has_documents(client: pareta.Pareta) -> None:
    """A small one inline, a large one by an address of its own; the vendor's model reads both."""
    made = client.evals.sets.create(task="invoice-fields", items=ROWS)
    for row, document in enumerate((SMALL, LARGE)):
        client.evals.sets.upload_document(made.id, document, idx=row, field_name="scan", mime="image/png")
    run = client.evals.runs.create(eval_set=made.id, models=[], frontier="all", wait=True, poll_interval=0.5)
    assert (run.status, run.results[0].n_succeeded) == ("completed", 2)


async def evaluates_async(client: pareta.AsyncPareta) -> None:
    """Tasks, sets, documents, the roster and a run, awaited."""
    assert len(await client.tasks.list()) == 16
    assert (await client.tasks.retrieve(TASK)).to_dict()["id"] == TASK
    assert (await client.tasks.match("answers from a passage")).chosen.task_id == TASK
    assert len(await client.evals.frontier_models()) == 2
    made = await client.evals.sets.create(task="invoice-fields", items=ROWS[:1])
    assert (await client.evals.sets.retrieve(made.id)).item_count == 1
    assert made.id in [each.id for each in await client.evals.sets.list()]
    await client.evals.sets.upload_document(made.id, SMALL, idx=0, field_name="scan", mime="image/png")
    run = await client.evals.runs.create(
        eval_set=made.id, models=[], frontier=["vendor-large"], wait=True, poll_interval=0.5
    )
    assert (run.status, run.results[0].n_succeeded) == ("completed", 1)
    await client.evals.sets.delete(made.id)


@dataclass
class Cli:
    """The SDK's command, and which of its verbs it was asked."""

    root: str
    key: str
    used: set[tuple[str, ...]] = field(default_factory=set)

    def __call__(self, *argv: str, code: int = 0) -> str:
        words = [word for word in argv if word != "--json"]
        self.used |= {verb for verb in sdk_surface.verbs() if tuple(words[: len(verb)]) == verb}
        return command(self.root, self.key, *argv, code=code)

    def json(self, *argv: str) -> Any:
        return json.loads(self("--json", *argv))


def by_command(cli: Cli, rows: Path) -> None:
    """One endpoint from deploy to delete, an eval that it answers, and what there is to discover."""
    assert TASK in cli("tasks", "list")
    assert TASK in cli("tasks", "match", "answers from a passage")
    assert cli.json("tasks", "show", TASK)["id"] == TASK
    assert "grounded-2" in cli("tasks", "leaderboard", TASK)
    assert cli("tasks", "recommended", TASK).strip() == "grounded-1"
    deploy = ("endpoints", "deploy", "--task", TASK, "--model", "grounded-2", "--name", "by-hand", "--wait")
    endpoint = cli.json(*deploy)["id"]
    assert endpoint in cli("endpoints", "list")
    assert endpoint in cli("models", "list")
    assert cli.json("endpoints", "show", endpoint)["status"] == "live"
    assert "Paris" in cli("chat", endpoint, QUESTION[0]["content"])
    rows.write_text("\n".join(map(json.dumps, ROWS)))
    made = cli.json("evals", "sets", "create", "--task", TASK, "--file", str(rows))["id"]
    assert made in cli("evals", "sets", "list")
    assert TASK in cli("evals", "sets", "show", made)
    told = cli.json("evals", "run", "--eval-set", made, "--models", "grounded-2", "--wait")
    assert told["results"][0]["n_succeeded"] == 2
    cli("evals", "sets", "delete", "--yes", made)
    assert "latency_ms" in cli("endpoints", "metrics", endpoint)
    assert "debit_micro_usd" in cli("endpoints", "cost", endpoint)
    assert "stopped" in cli("endpoints", "stop", endpoint)
    assert "stopped" in cli("chat", endpoint, "Are you there?", code=1)
    assert "started" in cli("endpoints", "start", endpoint)
    assert "Paris" in cli("chat", endpoint, QUESTION[0]["content"])  # held until it is live again
    assert "deleted" in cli("endpoints", "delete", "--yes", endpoint)


def without_credit(agent: Agent, root: str, endpoint: str) -> None:
    """Neither a deploy nor a call."""
    assert agent.command("org", "create", "org_poor").returncode == 0
    poor = agent.command("keys", "create", "--org", "org_poor").stdout.strip()
    with pareta.Pareta(api_key=poor, base_url=root, max_retries=0) as client:
        with pytest.raises(pareta.InsufficientCreditsError):
            client.endpoints.deploy(task="contract-key-fields", wait=True)
        with pytest.raises(pareta.InsufficientCreditsError):
            client.chat.completions.create(model=endpoint, messages=QUESTION)

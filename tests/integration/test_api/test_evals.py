"""Eval sets and runs as the unmodified SDK asks for them, answered by engines of the node itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pareta
import pytest
from catalogs import sixteen
from harness import Agent, fake_engine
from vendor import roster, vendor_api

from .conftest import Api

pytestmark = pytest.mark.slow

PARIS = {"input": "What is the capital of France?", "expected": "The capital of France is Paris."}
WRONG = {"input": "What is the capital of Italy?", "expected": "Rome"}


@pytest.fixture(scope="module")
def vendor() -> Iterator[ThreadingHTTPServer]:
    with vendor_api() as server:
        yield server


@pytest.fixture(scope="module")
def evals(tmp_path_factory: pytest.TempPathFactory, vendor: ThreadingHTTPServer) -> Iterator[Api]:
    """A node whose plane has a roster of two vendors' models, one of them with a key that is not there."""
    place: Path = tmp_path_factory.mktemp("evals")
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine(),
        "PARETA_REGISTRY_CATALOG": str(sixteen(place / "catalog")),
        "PARETA_PLANE_FRONTIER": str(roster(place, vendor.server_port)),
    }
    with Agent(place / "home", settings=settings) as agent:
        ready = agent.ready()
        assert agent.command("org", "create", "org_poor").returncode == 0
        poor = agent.command("keys", "create", "--org", "org_poor").stdout.strip()
        yield Api(agent, ready["base_url"].removesuffix("/v1"), ready["api_key"], poor)


@pytest.fixture
def client(evals: Api) -> Iterator[pareta.Pareta]:
    with evals.client() as client:
        yield client


def ids(client: pareta.Pareta) -> set[str | None]:
    return {each.id for each in client.endpoints.list()}


def test_sets_come_and_go(client: pareta.Pareta) -> None:
    """Made of rows, found again, deleted for good; the task says how it is scored."""
    made = client.evals.sets.create(task="contract-key-fields", items=[PARIS, WRONG], name="mine")
    assert (made.task_id, made.name, made.item_count, made.scoring_strategy) == (
        "contract-key-fields",
        "mine",
        2,
        "json-key-f1",
    )
    assert client.evals.sets.retrieve(made.id).to_dict() == made.to_dict()
    assert made.id in {each.id for each in client.evals.sets.list()}
    client.evals.sets.delete(made.id)
    with pytest.raises(pareta.NotFoundError, match="no such eval set"):
        client.evals.sets.retrieve(made.id)


def test_a_bad_row_is_named(client: pareta.Pareta) -> None:
    """Nothing is kept of such a set."""
    before = len(client.evals.sets.list())
    with pytest.raises(pareta.BadRequestError, match="Line 2: the field 'expected' is missing"):
        client.evals.sets.create(task="contract-key-fields", items=[PARIS, {"input": "x"}])
    with pytest.raises(pareta.NotFoundError, match="no task 'nonsense'"):
        client.evals.sets.create(task="nonsense", items=[PARIS])
    assert len(client.evals.sets.list()) == before


def test_a_run_compares_open_models_and_a_vendors(
    evals: Api, client: pareta.Pareta, vendor: ThreadingHTTPServer
) -> None:
    """Quality by the task's scorer; every call is a ledger row, and the run's cost is their sum; engines go back."""
    before = ids(client)
    rows = [PARIS, WRONG] * 3
    run = client.evals.runs.create(
        task="article-topics",
        items=rows,
        models=["topics-1", "topics-2"],
        frontier="benchmarked",
        wait=True,
        poll_interval=0.2,
        timeout=120,
    )
    assert (run.status, run.error_detail) == ("completed", None)
    first, second, vendors = run.results
    assert [(r.model_id, r.kind, r.n_succeeded, r.error_count) for r in run.results] == [
        ("topics-1", "open", 6, 0),
        ("topics-2", "open", 6, 0),
        ("vendor-large", "frontier", 6, 0),
    ]
    assert (first.quality_mean, second.quality_mean, vendors.quality_mean) == (0.5, 0.5, 0.5)
    assert first.quality_ci_low < 0.5 < first.quality_ci_high
    assert vendors.mean_cost_micro_usd == 5000 + 100
    # the model's own name, the task's prompt, and no more
    asked = [(body["model"], body["messages"][-1]["content"]) for body in vendor.asked]  # type: ignore[attr-defined]
    assert sorted(asked) == sorted(("large", row["input"]) for row in rows)
    ledger = {row["request_id"]: row for row in evals.agent.usage()}
    mine = [
        r
        for r in ledger.values()
        if r["endpoint"].startswith("ep_eval_topics_") or r["endpoint"] == "vendor-large"
    ]
    assert len(mine) == 18
    assert sum(row["debit_micro_usd"] for row in mine) == run.cost_micro_usd > 6 * 5100
    assert ids(client) == before
    assert client.models.list() != []


def test_an_engine_that_a_run_asked_for_is_no_endpoint_of_the_org(client: pareta.Pareta) -> None:
    """While it lasts it is neither an endpoint nor a model; the run gives it back."""
    models = {model.id for model in client.models.list()}
    before = ids(client)
    run = client.evals.runs.create(task="article-topics", items=[PARIS] * 200, models=["topics-2"])
    seen = []
    while not client.evals.runs.retrieve(run.id).is_terminal:
        seen.append(({model.id for model in client.models.list()}, ids(client)))
    assert len(seen) > 3
    assert [each for each in seen if each != (models, before)] == []
    assert client.evals.runs.retrieve(run.id).results[0].n_succeeded == 200


def test_an_endpoint_of_the_orgs_own_is_asked_and_kept(client: pareta.Pareta) -> None:
    """No second engine is started for a model that serves already."""
    (endpoint,) = [each for each in client.endpoints.list() if each.is_live]
    run = client.evals.runs.create(
        task="contract-key-fields", items=[PARIS], models=[endpoint.model], wait=True, poll_interval=0.2
    )
    assert (run.status, run.results[0].n_succeeded) == ("completed", 1)
    assert client.endpoints.retrieve(endpoint.id).is_live


def test_a_model_that_cannot_be_asked_costs_only_itself(client: pareta.Pareta) -> None:
    """The others are asked all the same, and the run says what was wrong."""
    run = client.evals.runs.create(
        task="contract-key-fields",
        items=[PARIS],
        models=["contract-kie-1"],
        frontier=["vendor-blind"],
        wait=True,
        poll_interval=0.2,
    )
    fine, blind = run.results
    assert (run.status, fine.n_succeeded, blind.n_succeeded) == ("completed", 1, 0)
    assert run.error_detail == "the key for vendor-blind cannot be read on the plane's host"


def test_the_roster_is_told(client: pareta.Pareta) -> None:
    """For a task with documents only models that see; benchmarked are those of its leaderboard."""
    every = client.evals.frontier_models()
    assert [(m.id, m.vendor, m.vision, m.benchmarked) for m in every] == [
        ("vendor-large", "Vendor", True, False),
        ("vendor-blind", "Vendor", False, False),
    ]
    told = client.evals.frontier_models(task="invoice-fields")
    assert [(m.id, m.benchmarked) for m in told] == [("vendor-large", True)]


def test_documents_go_with_their_row(client: pareta.Pareta, vendor: ThreadingHTTPServer) -> None:
    """A small one inline, a large one by an address of its own; kinds that no model reads are refused."""
    made = client.evals.sets.create(task="invoice-fields", items=[PARIS, PARIS])
    client.evals.sets.upload_document(made.id, b"\x89PNG small", idx=0, field_name="scan", mime="image/png")
    large = b"\x89PNG" + bytes(5 * 2**20)
    client.evals.sets.upload_document(made.id, large, idx=1, field_name="scan", mime="image/png")
    with pytest.raises(pareta.BadRequestError, match="No model reads application/pdf"):
        client.evals.sets.upload_document(made.id, b"%PDF", idx=0, field_name="scan", mime="application/pdf")
    with pytest.raises(pareta.BadRequestError, match="there is no row 2"):
        client.evals.sets.upload_document(made.id, b"x", idx=2, field_name="scan", mime="image/png")
    vendor.asked.clear()  # type: ignore[attr-defined]
    run = client.evals.runs.create(
        eval_set=made.id, models=[], frontier=["vendor-large"], wait=True, poll_interval=0.2
    )
    assert run.results[0].n_succeeded == 2
    asked = [body["messages"][-1]["content"][1] for body in vendor.asked]  # type: ignore[attr-defined]
    sent = {base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in asked}
    assert sent == {b"\x89PNG small", large}


def test_orgs_do_not_see_each_other(evals: Api, client: pareta.Pareta) -> None:
    """Another's set and run are as unknown as none, and without credit nothing is begun."""
    made = client.evals.sets.create(task="contract-key-fields", items=[PARIS])
    run = client.evals.runs.create(eval_set=made.id, models=["contract-kie-1"])
    with evals.client(evals.poor_key) as other:
        assert other.evals.sets.list() == []
        for forbidden in (
            lambda: other.evals.sets.retrieve(made.id),
            lambda: other.evals.sets.delete(made.id),
            lambda: other.evals.runs.retrieve(run.id),
            lambda: other.evals.sets.upload_document(made.id, b"x", idx=0, field_name="a", mime="text/plain"),
        ):
            with pytest.raises(pareta.NotFoundError):
                forbidden()
        own = other.evals.sets.create(task="contract-key-fields", items=[PARIS])
        with pytest.raises(pareta.InsufficientCreditsError):
            other.evals.runs.create(eval_set=own.id, models=["contract-kie-1"])
    assert client.evals.runs.wait(run.id, poll_interval=0.2).status == "completed"


def test_what_the_balance_cannot_cover_is_refused(client: pareta.Pareta) -> None:
    """By an estimate, before anything is asked."""
    rows = [{"input": "word " * 20_000, "expected": "x"}] * 100
    with pytest.raises(pareta.InsufficientCreditsError, match="may cost"):
        client.evals.runs.create(task="contract-key-fields", items=rows, models=[], frontier=["vendor-large"])
    with pytest.raises(pareta.NotFoundError, match="no model 'nonsense'"):
        client.evals.runs.create(task="contract-key-fields", items=[PARIS], models=["nonsense"])


async def test_the_async_client_does_the_same(evals: Api) -> None:
    """Set, run and roster."""
    async with pareta.AsyncPareta(api_key=evals.key, base_url=evals.root, max_retries=0) as client:
        run = await client.evals.runs.create(
            task="contract-key-fields", items=[PARIS], models=["recommended"], wait=True, poll_interval=0.2
        )
        assert (run.status, run.results[0].model_id) == ("completed", "contract-kie-1")
        assert len(await client.evals.frontier_models()) == 2
        assert await asyncio.wait_for(client.evals.sets.list(), 60) != []


def test_a_run_goes_on_after_the_agent_was_killed(tmp_path: Path) -> None:
    """No row is asked again that was answered, and none is left out."""
    settings = {
        "PARETA_ENGINE_COMMAND": fake_engine("--slow-token", "0.1"),
        "PARETA_REGISTRY_CATALOG": str(sixteen(tmp_path / "catalog")),
    }
    with Agent(tmp_path / "home", settings=settings) as agent:
        ready = agent.ready()
        key = ready["api_key"]
        with pareta.Pareta(api_key=key, base_url=ready["base_url"].removesuffix("/v1")) as client:
            run_id = client.evals.runs.create(
                task="article-topics", items=[PARIS] * 40, models=["topics-2"]
            ).id
            while client.evals.runs.retrieve(run_id).to_dict()["run"]["rows_done"] < 4:
                pass
        agent.kill()
    with Agent(tmp_path / "home", settings=settings) as agent:
        ready = agent.ready()
        with pareta.Pareta(api_key=key, base_url=ready["base_url"].removesuffix("/v1")) as client:
            run = client.evals.runs.wait(run_id, poll_interval=0.2, timeout=120)
            assert (run.status, run.results[0].n_succeeded) == ("completed", 40)
            assert {each.id for each in client.endpoints.list()} == {"ep_contract_kie"}

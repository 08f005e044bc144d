"""Tasks as both of the SDK's clients see them: list, detail, board, match."""

from __future__ import annotations

import pareta
import pytest

pytestmark = pytest.mark.slow


def test_the_catalog_is_listed(client) -> None:
    """Ids, scorers, and which take documents."""
    tasks = {task.id: task for task in client.tasks.list()}
    assert len(tasks) == 16
    assert tasks["invoice-fields"].has_blob_input
    assert tasks["ticket-routing"].default_scorer == "label-accuracy"


def test_a_task_shows_as_many_examples_as_asked(client) -> None:
    """Beside its schema, its models and its prompts."""
    assert len(client.tasks.retrieve("ticket-routing").get("examples")) == 3
    task = client.tasks.retrieve("ticket-routing", examples_n=1)
    [example] = task.get("examples")
    assert set(example) == set(task.get("schema")["properties"])
    assert (example["expected"], task.get("models")) == ("billing", ["ticket-1", "ticket-2"])
    assert "{input}" in task.get("promptScaffold")
    with pytest.raises(pareta.NotFoundError):
        client.tasks.retrieve("no-such-task")
    with pytest.raises(pareta.BadRequestError):
        client.tasks.retrieve("ticket-routing", examples_n=-1)


def test_a_leaderboard_ranks_open_models_beside_a_vendor(client) -> None:
    """What it recommends is what a deploy takes."""
    board = client.tasks.leaderboard("invoice-fields")
    assert [each.name for each in board.models] == ["invoice-1", "invoice-2", "invoice-3"]
    assert [each.cost_per_request_micro_usd for each in board.models] == [750, 360, 180]
    assert board.frontier.kind == "frontier"
    assert client.tasks.recommended("invoice-fields") == board.recommended == "invoice-1"


def test_a_free_text_finds_its_task_or_none(client) -> None:
    """With candidates beside it, or the word unsupported."""
    found = client.tasks.match("extract fields from supplier invoices", top_k=2)
    assert (found.type, found.matched, found.chosen.task_id) == ("task", True, "invoice-fields")
    assert (found.confidence, found.ambiguous, len(found.candidates)) == ("high", False, 2)
    foreign = client.tasks.match("compose a piano melody")
    assert (foreign.type, foreign.matched, foreign.chosen) == ("unsupported", False, None)
    assert len(foreign.candidates) == 5


async def test_the_async_client_sees_the_same(api) -> None:
    """Every method of its tasks."""
    async with pareta.AsyncPareta(api_key=api.key, base_url=api.root, max_retries=0) as client:
        assert len(await client.tasks.list()) == 16
        assert (await client.tasks.retrieve("icd-coding")).id == "icd-coding"
        assert (await client.tasks.match("mask names and phone numbers")).chosen.task_id == "pii-redaction"

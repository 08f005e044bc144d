"""Leaderboard: ranks open aliases by quality, then cost, beside the best vendor."""

from __future__ import annotations

from pathlib import Path

from catalogs import sixteen

from pareta_agent.plane.tasks.leaderboard import Entry, leaderboard, ranked
from pareta_registry.load import builtin_catalog, load_catalog


def entry(name: str, quality: float | None, cost: int | None) -> Entry:
    return Entry(
        name=name,
        kind="open",
        quality=quality,
        cost_per_request_micro_usd=cost,
        context_k=4,
        run_mode="endpoint",
    )


def test_quality_then_cost_then_the_catalogs_order() -> None:
    """Unmeasured models come last."""
    board = [
        entry("unknown", None, 1),
        entry("dear", 0.9, 9),
        entry("cheap", 0.9, 2),
        entry("free", 0.9, None),
        entry("best", 0.95, 50),
    ]
    assert [each.name for each in ranked(board)] == ["best", "cheap", "dear", "free", "unknown"]


def test_a_board_of_the_catalog(tmp_path: Path) -> None:
    """3,000 tokens at 0.2 and 250 at 0.8 dollars a million are 800 micro-dollars."""
    catalog = load_catalog(sixteen(tmp_path / "catalog"))
    task = next(task for task in catalog.tasks if task.id == "contract-key-fields")
    board = leaderboard(catalog, task)
    assert [(each.name, each.quality, each.cost_per_request_micro_usd) for each in board.models] == [
        ("contract-kie-1", 0.91, 800),
        ("contract-kie-2", 0.86, 400),
    ]
    assert (board.recommended, board.metric) == ("contract-kie-1", "json-key-f1")
    assert board.frontier is not None
    assert (board.frontier.kind, board.frontier.cost_per_request_micro_usd) == ("frontier", 12750)


def test_a_task_without_figures_has_a_board() -> None:
    """Unknown is null, and the plane's own price applies."""
    catalog = builtin_catalog()
    board = leaderboard(catalog, catalog.tasks[1])
    assert board.frontier is None
    assert [each.quality for each in board.models] == [None]

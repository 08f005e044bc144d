"""Task match: a free text finds the task or "unsupported", measured on held-out phrasings."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from catalogs import sixteen_tasks

from pareta_agent.plane.tasks.match import Matcher, ambiguous, verdict
from pareta_registry.catalog import Task
from pareta_registry.load import builtin_catalog

ROOT = Path(__file__).parents[5]


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return Matcher(sixteen_tasks())


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("match_benchmark", ROOT / "benchmarks" / "match.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_held_out_phrasings_find_their_task(matcher: Matcher, benchmark: ModuleType) -> None:
    """At least 85 % find the task, nine of ten "unsupported" are right, and the committed figures agree."""
    found = benchmark.figures(matcher, benchmark.phrasings(True))
    assert found["top1"] >= 0.85
    assert found["unsupported_precision"] >= 0.9
    assert found["covered"] >= 60
    committed = json.loads((ROOT / "benchmarks" / "results" / "match.json").read_text())
    assert committed["held_out"] == found


def test_scores_are_shares_and_fall(matcher: Matcher) -> None:
    """Every task is ranked, between 0 and 1, best first."""
    scores = [each.score for each in matcher.ranked("extract fields from supplier invoices")]
    assert len(scores) == 16
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1


def test_two_tasks_that_fit_alike_are_ambiguous(matcher: Matcher) -> None:
    """A query for one task is not ambiguous, a query that names two tasks is."""
    assert not ambiguous(matcher.ranked("extract fields from supplier invoices"))
    assert ambiguous(matcher.ranked("news articles or product reviews"))


@pytest.mark.parametrize(
    ("query", "task"),
    [("extract the parties of a contract", "contract-key-fields"), ("explain a clause", "clause-summary")],
)
def test_a_catalog_of_two_tasks_is_enough(query: str, task: str) -> None:
    """The demo's catalog answers queries for both tasks."""
    ranked = Matcher(builtin_catalog().tasks).ranked(query)
    assert (ranked[0].task, verdict(ranked)) == (task, "task")


@pytest.mark.parametrize("query", ["", "  ", "???", "the of and", "日本語", "\ud800"])
def test_a_question_without_words_is_unsupported(matcher: Matcher, query: str) -> None:
    """A query without words scores zero."""
    assert verdict(matcher.ranked(query)) == "unsupported"


def test_an_empty_catalog_supports_nothing() -> None:
    """An empty catalog gives "unsupported", without an error."""
    tasks: list[Task] = []
    assert verdict(Matcher(tasks).ranked("contracts")) == "unsupported"

"""Pages of the documentation: every page is in the index, every link and every path that a page names exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINKED = [*PAGES, *ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
PACKAGES = (ROOT, ROOT / "agent" / "pareta_agent", ROOT / "registry" / "pareta_registry")
PLACES = ("agent/", "registry/", "tests/", "docs/", "deploy/", "benchmarks/", "examples/")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links that lead into this repository."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def module(path: str, page: Path) -> Path | None:
    """The file that a page names, from the repository, one of its packages, or beside the page."""
    return next((b / path for b in (*PACKAGES, page.parent) if (b / path).exists()), None)


def text_of(path: str, page: Path) -> str:
    file = module(path, page)
    return file.read_text() if file else ""


def broken(page: Path) -> list[str]:
    found = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    """A reader never meets a dead link."""
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_of_the_repository_exists(page):
    """A path in backticks that begins with a folder of this repository is a file or a folder of it."""
    named = re.findall(r"`([a-z]+/[\w./*-]+)`", page.read_text())
    assert [path for path in named if path.startswith(PLACES) and not any(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_module_exists(page):
    """A Python file in backticks is below the repository or one of its packages."""
    named = re.findall(r"`((?:[\w.]+/)*\w+\.py)`", page.read_text())
    assert [path for path in named if module(path, page) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_symbol_is_in_its_module(page):
    """A name in backticks right after a module's path (`x.py`, `name`) stands in that module."""
    named = re.findall(
        r"`((?:[\w.]+/)*\w+\.py)`(?:, |: | \()`(?:\w+\.)*(?!py`)([A-Za-z_]\w*)`", page.read_text()
    )
    assert [(path, symbol) for path, symbol in named if symbol not in text_of(path, page)] == []


def test_the_counts_of_files_are_as_measured():
    """`docs/life-of-a-request.md` has the counts of `benchmarks/walks.py`."""
    page = " ".join((DOCS / "life-of-a-request.md").read_text().split())
    counts = json.loads((ROOT / "benchmarks" / "results" / "walks.json").read_text())["counts"]
    found = re.findall(r"(\d+) files in the agent and (\d+) in the plane", page)
    assert found == [(str(walk["agent"]), str(walk["plane"])) for walk in counts.values()]


def test_every_page_is_in_the_index():
    """`docs/README.md` leads to each page."""
    listed = {(DOCS / target.partition("#")[0]).resolve() for target in links(DOCS / "README.md")}
    assert [name(page) for page in PAGES if page != DOCS / "README.md" and page not in listed] == []

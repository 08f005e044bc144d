"""Style: the measurable rules for names, docstrings, pages and commits, each with its limit."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for root in ("agent", "registry") for p in (ROOT / root).rglob("*.py"))
# Parsed on import: CPython 3.11's parser raises SystemError when a collection in its midst runs what other tests left.
TREES = {source: ast.parse(source.read_text()) for source in SOURCES}
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

# A sentence has a term or an imperative as its subject; a question may begin as it likes.
FREE_RELATIVE = re.compile(
    r"^(What|Who|Whoever|Where|Whatever|Which|Whether|How|Those|One that|That which)\b(?![^.]*\?$)"
)
PRONOUNS = (
    *("it", "its", "they", "them", "their", "those", "these", "one", "ones", "others"),
    *("nobody", "everybody", "somebody", "anybody", "who", "whose"),
)
SPEECH = (
    *("told", "tells", "tell", "says", "said", "say", "hears", "heard", "hear"),
    *("asks", "asked", "speaks", "wants", "wish", "wishes"),
)
# Terms that an engineer searches for: each stem stands in a module's docstring or in a file name.
FIELD_TERMS = (
    *("load balanc", "reverse proxy", "admission control", "rate limit", "scale to zero", "hot restart"),
    *("supervis", "backpressure", "health check", "placement", "idempoten", "quarantin", "reconcil"),
    *("connection pool", "drain", "lease", "fenc", "evict", "prefetch", "retry"),
)
METAPHORS = (
    *("desk", "door", "ticket", "hand", "crew", "crowd", "told", "elder", "heir", "sight", "seat"),
    *("room", "rooms", "waker", "idler", "healer", "books", "tally", "passage", "wary", "lodge"),
    *("guest", "slumber", "sleeper", "errand", "essence", "offer", "lender", "roster", "sow"),
)
SUBJECT_CHARS = 72


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def crowded_folders() -> list[str]:
    """Folders of more than 15 modules."""
    modules = Counter(source.parent for source in SOURCES if source.name != "__init__.py")
    return [f"{relative(folder)}: {count}" for folder, count in modules.items() if count > 15]


def repeated_classes() -> list[str]:
    """Public class names with more than one meaning."""
    places = defaultdict(list)
    for source, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(relative(source))
    return [f"{name}: {' '.join(found)}" for name, found in places.items() if len(found) > 1]


def repeated_modules() -> list[str]:
    """Module names with more than one meaning within a distribution."""
    places = defaultdict(list)
    for source in SOURCES:
        if source.name not in ("__init__.py", "__main__.py"):
            places[source.relative_to(ROOT).parts[0], source.name].append(relative(source))
    return [f"{name}: {' '.join(found)}" for (_, name), found in places.items() if len(found) > 1]


def squeezed_files() -> list[str]:
    """Files that end just below the limit of `test_size.py`."""
    lengths = {source: len(source.read_text().splitlines()) for source in SOURCES}
    return [f"{relative(source)}: {lines}" for source, lines in lengths.items() if 290 <= lines <= 300]


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring with its place."""
    for source, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{relative(source)}:{getattr(node, 'name', '')}", text


def free_relatives() -> list[str]:
    """Docstrings whose first sentence has a clause as its subject."""
    return [f"{place}: {text[:60]}" for place, text in docstrings() if FREE_RELATIVE.match(text)]


def sentences(page: Path) -> list[str]:
    """Sentences of more than two words, without code, tables and headings; a span of code counts as one word."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    text = re.sub(r"(?m)^\s*\|.*$|^#.*$", "", text)
    text = re.sub(r"`[^`]*`", "X", text)
    paragraphs = re.split(r"\n\s*\n|\n\s*- |\n\d+\. ", text)
    found = [s for paragraph in paragraphs for s in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))]
    return [sentence for sentence in found if len(sentence.split()) > 2]


def identifiers() -> Counter[str]:
    """How often each name is defined or used, in lower case."""
    found: Counter[str] = Counter()
    for tree in TREES.values():
        for node in ast.walk(tree):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found[name.lower()] += 1
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    found[name.lower()] += 1
    return found


def git(*argv: str) -> list[str]:
    """Lines of git's output; skips the test where the sources are no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *argv], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout")
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("measure", "limit"),
    [
        (crowded_folders, 0),
        (repeated_classes, 3),
        (repeated_modules, 8),
        (squeezed_files, 2),
        (free_relatives, 20),
    ],
)
def test_findings_stay_within_their_limit(measure: Callable[[], list[str]], limit: int) -> None:
    """Each measure lists what breaks its rule."""
    found = measure()
    assert len(found) <= limit, "\n".join(found)


@pytest.mark.parametrize(("words", "limit"), [(PRONOUNS, 30), (SPEECH, 5)], ids=["pronouns", "speech verbs"])
def test_docstrings_name_their_subjects(words: tuple[str, ...], limit: int) -> None:
    """So many of these words stand in 1,000 words of docstrings."""
    spoken = [word.lower() for word in re.findall(r"[A-Za-z']+", " ".join(text for _, text in docstrings()))]
    rate = 1000 * sum(word in words for word in spoken) / len(spoken)
    assert round(rate) <= limit


def test_long_sentences_are_rare_on_pages() -> None:
    """At most five sentences of a hundred have more than 30 words."""
    found = [(page, sentence) for page in PAGES for sentence in sentences(page)]
    long = [f"{relative(page)}: {text}" for page, text in found if len(text.split()) > 30]
    assert round(100 * len(long) / len(found)) <= 5, "\n".join(long)


def test_the_readme_is_short() -> None:
    """At most 8,000 bytes."""
    assert len((ROOT / "README.md").read_bytes()) <= 8000


def glossary() -> list[list[tuple[str, ...]]]:
    """Rows of each table of the glossary: term, meaning, file."""
    sections = re.split(r"^## ", (ROOT / "docs" / "glossary.md").read_text(), flags=re.M)[1:]
    return [re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([^`|]+)` \|$", section, re.M) for section in sections]


def test_the_glossary_has_each_term_once_and_in_order() -> None:
    """One meaning a term; a reader finds it by the alphabet."""
    tables = [[term.lower() for term, _, _ in rows] for rows in glossary()]
    assert tables == [sorted(terms) for terms in tables]
    terms = Counter(term for table in tables for term in table)
    assert [term for term, count in terms.items() if count > 1] == []


def test_the_glossary_names_files_that_exist() -> None:
    """Each row leads into the code."""
    rows = [row for table in glossary() for row in table]
    assert len(rows) > 80
    assert [term for term, _, file in rows if not (ROOT / file).is_file()] == []


def test_the_glossary_has_every_field_term() -> None:
    """A term that modules are found by has a meaning on the page."""
    terms = " ".join(term.lower() for table in glossary() for term, _, _ in table)
    assert [term for term in FIELD_TERMS if term not in terms] == []


@pytest.mark.parametrize("term", FIELD_TERMS)
def test_a_field_term_leads_to_a_module(term: str) -> None:
    """A search for the term finds a file name or the first lines of a module."""
    heads = [f"{ast.get_docstring(tree) or ''} {relative(source)}" for source, tree in TREES.items()]
    assert any(term in head.lower().replace("_", " ").replace("-", " ") for head in heads)


def test_no_identifier_is_a_metaphor() -> None:
    """Names are the field's."""
    found = identifiers()
    uses = {word: found[word] + found[f"_{word}"] for word in METAPHORS}
    assert {word: count for word, count in uses.items() if count} == {}


def test_commit_subjects_fit_on_a_line() -> None:
    """Of the commits since the glossary, as far as the clone reaches, at most one in forty is longer."""
    first = git("log", "--diff-filter=A", "--format=%H", "--", "docs/glossary.md")
    subjects = git("log", f"{first[-1]}..", "--format=%s") if first else []
    long = [subject for subject in subjects if len(subject) > SUBJECT_CHARS]
    assert len(long) <= len(subjects) // 40, "\n".join(long)


@pytest.mark.parametrize("name", ["LICENSE", "SECURITY.md", "docs/glossary.md", "examples"])
def test_a_page_that_readers_expect_exists(name: str) -> None:
    """A newcomer finds licence, security policy, terms and examples at the usual address."""
    assert (ROOT / name).exists()

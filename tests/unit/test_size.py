"""Size tells: small files, small functions, and a reason (here) for what is larger."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "agent").rglob("*.py"), *(ROOT / "registry").rglob("*.py")])
# Parsed on import: CPython 3.11's parser raises SystemError when a collection in its midst runs what other tests left.
TREES = {source: ast.parse(source.read_text()) for source in SOURCES}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
LARGER: dict[str, str] = {
    "agent/pareta_agent/front/protocol.py": "one class, called by uvicorn, and the deadlines of its connection",
    "agent/pareta_agent/front/run.py": "one request at its engine: sent, retried, relayed and settled once",
}


def functions() -> list[tuple[str, int]]:
    return [
        (f"{source.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1)
        for source, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def files() -> list[tuple[str, int]]:
    return [(str(source.relative_to(ROOT)), len(source.read_text().splitlines())) for source in SOURCES]


def test_no_file_is_longer_than_a_noun_needs():
    """A file over 300 lines is more than one noun."""
    assert [f for f in files() if f[1] > MAX_FILE_LINES and f[0] not in LARGER] == []


def test_no_function_is_longer_than_a_screen():
    """A function over 50 lines does more than one thing."""
    assert [f for f in functions() if f[1] > MAX_FUNCTION_LINES and f[0] not in LARGER] == []


def test_the_median_file_and_function_are_small():
    """The middle file has at most 130 lines, the middle function 10."""
    assert statistics.median(n for _, n in files()) <= 130
    assert statistics.median(n for _, n in functions()) <= 10


def test_every_reason_still_has_its_file():
    """An exception that is no longer needed is removed."""
    sizes = dict(files()) | dict(functions())
    assert [name for name in LARGER if sizes.get(name, 0) <= MAX_FUNCTION_LINES] == []


def test_every_module_says_what_it_is_for():
    """A module opens with a docstring."""
    assert [str(source) for source, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []

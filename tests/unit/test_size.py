"""Size tells: small files, small functions, and a reason (here) for what is larger."""

import ast
import statistics
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "agent").rglob("*.py"), *(ROOT / "registry").rglob("*.py")])
# Parsed on import: CPython 3.11's parser raises SystemError when a collection in its midst runs what other tests left.
TREES = {source: ast.parse(source.read_text()) for source in SOURCES}
LOOKED_AT_LINES = 300
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_METHODS = 25
MAX_ATTRIBUTES = 20
LARGER: dict[str, str] = {}
LARGER_CLASSES = {
    "InferenceCall": "uvicorn's cycle and its own part are one object, for the sake of the hot path",
    "Components": "the composition root has everything",
    "Fleet": "the one face of all engines",
    "Gateway": "the one face of the data plane",
    "Node": "the composition root has everything",
    "Replica": "one owner of one life",
    "Rooms": "the composition root has everything",
    "UpstreamExchange": "one exchange with an engine, both sides of it",
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


def classes() -> list[tuple[str, int, int]]:
    """Each class with its number of methods, and of attributes that are set on `self`."""
    found = []
    for source, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            methods = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            written = {
                n.attr
                for method in methods
                for n in ast.walk(method)
                if isinstance(n, ast.Attribute)
                and isinstance(n.ctx, ast.Store)
                and isinstance(n.value, ast.Name)
                and n.value.id == "self"
            }
            found.append((f"{source.relative_to(ROOT)}:{node.name}", len(methods), len(written)))
    return found


@pytest.mark.filterwarnings("default::UserWarning")
def test_no_file_is_longer_than_a_noun_needs():
    """A file over 400 lines is more than one noun; one over 300 is looked at."""
    for name, lines in files():
        if LOOKED_AT_LINES < lines <= MAX_FILE_LINES:
            warnings.warn(f"{name} has {lines} lines", stacklevel=1)
    assert [f for f in files() if f[1] > MAX_FILE_LINES and f[0] not in LARGER] == []


def test_no_class_has_more_members_than_a_reader_holds():
    """At most 25 methods and 20 attributes."""
    large = [c for c in classes() if c[1] > MAX_METHODS or c[2] > MAX_ATTRIBUTES]
    assert [c for c in large if c[0].split(":")[1] not in LARGER_CLASSES] == []


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

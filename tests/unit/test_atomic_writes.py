"""Files are replaced at one address: lint bans the functions of `os`, and this test finds the methods of `Path`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "agent").rglob("*.py"), *(ROOT / "registry").rglob("*.py")])
TREES = [ast.parse(source.read_text()) for source in SOURCES]
# The functions that rename something else than a file that was just written, and why.
RENAMES = {
    "write_atomically": "the one address",
    "apply_seed": "endpoints in a database, no file",
    "open": "a hand-over's socket, which has its name once it listens",
    "publish": "a directory of weights, whose files were synced one by one",
    "_publish": "a directory of the registry that becomes an artifact",
    "_remove": "a directory of weights that is on its way out",
    "_write": "a fetch's journal, which is a hint and needs no sync",
    "salvage": "a damaged spool that is put aside",
    "turn_over": "a generation of a log",
}


def renames(function: ast.AST) -> bool:
    """Whether it calls `.rename(x)` or `.replace(x)` itself: text is replaced by two arguments, fields by keywords."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("rename", "replace")
        and (len(node.args), len(node.keywords)) == (1, 0)
        for node in ast.walk(function)
    )


def test_only_these_functions_rename() -> None:
    """A new one replaces its file by `write_atomically`, or says here why not."""
    found = [
        node.name
        for tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and renames(node)
    ]
    assert sorted(found) == sorted(RENAMES)

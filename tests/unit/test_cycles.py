"""No module imports itself by way of others; imports for type checking and within functions count."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for distribution in ("agent", "registry"):
        for path in (root / distribution).rglob("*.py"):
            parts = path.relative_to(root / distribution).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """By module: the modules of ours that it names in an import."""
    known = modules(root)
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named |= {
                    below if (below := f"{node.module}.{alias.name}") in known else node.module
                    for alias in node.names
                }
        graph[module] = (named & set(known)) - {module}
    return graph


def test_no_import_closes_a_circle():
    """The order of all modules exists."""
    TopologicalSorter(imports(ROOT)).prepare()


def test_a_circle_is_found(tmp_path):
    """Also one that only a type checker and a function import."""
    package = tmp_path / "agent" / "p"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import B\n"
    )
    (package / "b.py").write_text("def f():\n    from p import a\n")
    with pytest.raises(CycleError):
        TopologicalSorter(imports(tmp_path)).prepare()

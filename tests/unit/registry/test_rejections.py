"""Every "no" of the registry and of the weights says what happened to what, and what to do about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pareta_agent.weights
import pareta_registry

ROOMS = [Path(str(package.__file__)).parent for package in (pareta_registry, pareta_agent.weights)]
KINDS = ("ArtifactError", "TrustError", "RegistryError", "HostError")


def rejections() -> Iterator[tuple[str, str | None, ast.expr, ast.expr | None]]:
    """Place, code (None where another error's is passed on), message and remedy of each that is raised."""
    for path in (path for room in ROOMS for path in room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KINDS:
                code, message, *rest = node.args
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                remedy = rest[0] if rest else named.get("remedy")
                known = code.value if isinstance(code, ast.Constant) else None
                yield f"{path.name}:{node.lineno}", known, message, remedy


def test_every_rejection_has_a_remedy() -> None:
    """Not empty, and an instruction: it begins with a small letter and has no full stop."""
    found = list(rejections())
    assert len(found) > 60
    assert [place for place, _, _, remedy in found if remedy is None] == []
    fixed = [(place, r.value) for place, _, _, r in found if isinstance(r, ast.Constant)]
    assert [each for each in fixed if not re.fullmatch(r"[a-z].*[^.]", str(each[1]), re.S)] == []


def test_every_rejection_names_what_it_is_about() -> None:
    """A message that is the same whatever was asked for names nothing."""
    fixed = [place for place, _, message, _ in rejections() if isinstance(message, ast.Constant)]
    assert fixed == []


def test_codes_are_words() -> None:
    """Stable and greppable."""
    codes = {code for _, code, _, _ in rejections() if code}
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []

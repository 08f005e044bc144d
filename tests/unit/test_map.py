"""The map cannot lie: ARCHITECTURE and README are compared with the code."""

import ast
import re
from pathlib import Path

import docs
import pytest

from pareta_agent.cli import COMMANDS
from pareta_agent.telemetry.series import TABLE

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()


def packages() -> set[str]:
    agent = ROOT / "agent" / "pareta_agent"
    return {f"pareta_agent.{p.parent.name}" for p in agent.glob("*/__init__.py")} | {"pareta_registry"}


def test_the_codemap_names_every_package_and_no_other():
    """One row a package."""
    assert set(re.findall(r"^\| `(pareta_[a-z_.]+)` \|", ARCHITECTURE, re.M)) == packages()


def test_the_codemap_sends_readers_to_files_that_exist():
    """Each `Start reading at` is there."""
    missing = []
    for package, files in re.findall(r"^\| `(pareta_[a-z_.]+)` \|.*\| (.*) \|$", ARCHITECTURE, re.M):
        folder = ROOT / ("registry" if package == "pareta_registry" else "agent") / package.replace(".", "/")
        missing += [
            f"{package}/{file}"
            for file in re.findall(r"`([a-z_/]+\.py)`", files)
            if not (folder / file).exists()
        ]
    assert missing == []


def test_the_architecture_fits_in_one_sitting():
    """At most 200 lines."""
    assert len(ARCHITECTURE.splitlines()) <= 200


@pytest.mark.parametrize(("name", "mark"), docs.PARTS)
def test_generated_parts_are_current(name, mark):
    """`python tests/docs.py` would change nothing."""
    text = (ROOT / name).read_text()
    assert f"<!-- {mark} -->" in text
    assert docs.filled(text, mark, docs.PARTS[name, mark]()) == text, f"{name} is stale: run {docs.COMMAND}"


def test_every_alert_reads_series_that_exist():
    """A rule on a series that nobody exposes can never fire."""
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    assert set(re.findall(r"pareta_[a-z_]+", rules)) - {series.name for series in TABLE} == set()


def test_the_readme_names_every_command():
    """What the program offers is in the guide."""
    assert [
        name for name in COMMANDS if f"`pareta-agent {name}" not in README and f"`{name}`" not in README
    ] == []


def test_no_module_hides_a_name_of_its_package():
    """An import of `pareta_agent.cli.output` would replace an `output` that `cli/__init__.py` had imported."""
    hidden = []
    for init in [*(ROOT / "agent").rglob("__init__.py"), *(ROOT / "registry").rglob("__init__.py")]:
        modules = {
            path.stem
            for path in [*init.parent.glob("*.py"), *(each.parent for each in init.parent.glob("*/*.py"))]
        }
        for node in ast.walk(ast.parse(init.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                bound = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound = {node.name}
            else:
                continue
            hidden += [f"{init.parent.name}.{name}" for name in sorted(bound & modules)]
    assert hidden == []

"""Every Python snippet of the guides runs as it stands, but for the address and the key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pareta_registry.load import builtin_catalog

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
GUIDES = ("docs/guides/migrate-from-openai.md", "docs/guides/deploy-call-evaluate.md")


def snippets(guide: str) -> list[str]:
    """In the order of the text; of a diff, what it makes."""
    found = []
    for language, body in re.findall(
        r"^```(python|diff)\n(.*?)^```$", (ROOT / guide).read_text(), re.M | re.S
    ):
        lines = body.splitlines()
        if language == "diff":
            lines = [line[1:] for line in lines if not line.startswith("-")]
        found.append("\n".join(lines))
    return found


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_does_what_it_says(api, guide) -> None:
    """From top to bottom, each snippet a program of its own."""
    programs = snippets(guide)
    assert len(programs) >= 2
    for program in programs:
        program = program.replace("http://127.0.0.1:8000", api.root).replace("pareta_sk_…", api.key)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{program}\n{done.stderr}"
        assert done.stdout.strip()


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_asks_for_what_every_node_has(guide) -> None:
    """A newcomer has the built-in catalog."""
    asked = re.findall(r'task="([^"]+)"', (ROOT / guide).read_text())
    assert set(asked) <= {task.id for task in builtin_catalog().tasks}


def test_the_readme_leads_to_the_guides() -> None:
    """A guide that nobody finds helps nobody."""
    readme = (ROOT / "README.md").read_text()
    assert [guide for guide in GUIDES if guide not in readme] == []

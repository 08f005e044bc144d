"""What `serve` prints for scripts and for people, without a node."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from pareta_agent.cli.views.terminal import JsonLines, Terminal
from pareta_agent.telemetry.events import Event

ROOT = Path(__file__).parents[5]
PAGES = (ROOT / "README.md", ROOT / "docs" / "operating" / "scripts.md")


def printed(name: str, fields: dict[str, object]) -> str:
    lines: list[str] = []
    JsonLines(lines.append).line(name, fields)
    return "".join(lines)


def test_the_ready_line_of_the_docs_is_as_the_program_prints_it():
    """The same bytes: a reader may paste it into a test of a script that greps."""
    text = "\n".join(page.read_text() for page in PAGES)
    lines = re.findall(r'^{"event":"ready".*}$', text, re.M)
    assert lines
    for line in lines:
        fields = json.loads(line)
        assert printed(fields.pop("event"), fields) == line + "\n"
    assert re.findall(r'"event": ', text) == []


@pytest.mark.parametrize("value", ["a\udc80b", 2**80, {1: 2}, Path("/x"), b"\xff"])
def test_no_field_of_an_event_is_too_odd_for_a_line(value):
    """Telemetry never ends serving: what one JSON library refuses, the other one writes."""
    (line,) = printed("odd", {"field": value}).splitlines()
    assert json.loads(line)["event"] == "odd"


def test_a_person_reads_that_a_node_waits_and_where():
    """An info event that is said, as nothing else is until somebody wants something."""
    stream = io.StringIO()
    show = Terminal(Console(file=stream, width=200))
    show(Event("waiting_for_endpoints", fields={"base_url": "http://h:1/v1", "plane": "https://p"}))
    assert "waiting for endpoints" in stream.getvalue()
    assert "http://h:1/v1" in stream.getvalue()
    assert "https://p" in stream.getvalue()

"""Eval rows: valid rows, and the prompt of each row."""

import pytest

from pareta_agent.plane.evals import rows
from pareta_registry.catalog import Alias, Task

ROW = {"input": "Who signs?", "expected": "Acme"}


def task(**more):
    return Task(id="t", title="T", aliases=(Alias(id="a-1", model="m"),), recommended="a-1", **more)


def test_blank_lines_are_passed_over():
    """Blank lines are skipped, also with other line ends, and without a line end at the end."""
    assert rows.read(b'\n{"input": "a", "expected": 1}\r\n\n{"input": "b", "expected": {"x": 2}}') == [
        {"input": "a", "expected": 1},
        {"input": "b", "expected": {"x": 2}},
    ]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (b"", 1, "no rows"),
        (b'{"input": "a", "expected": 1}\n{"input": ', 2, "not a JSON object"),
        (b"[1]", 1, "not a JSON object"),
        (b'\n{"expected": 1}', 2, "'input' is missing"),
        (b'{"input": "a"}', 1, "'expected' is missing"),
        (b'{"input": "%s", "expected": 1}' % (b"x" * rows.MOST_ROW_BYTES), 1, "larger than"),
        (b'{"input": "a", "expected": 1}\n' * (rows.MOST_ROWS + 1), rows.MOST_ROWS + 1, "more than"),
    ],
)
def test_a_bad_row_is_named_by_its_line(text, line, says):
    """A single bad row refuses the set, and the refusal has the line."""
    found = rows.read(text)
    assert isinstance(found, rows.BadRows)
    assert found.line == line
    assert says in found.reason


def test_the_task_says_what_stands_around_the_input():
    """The prompt has system prompt and scaffold, and JSON for an input other than text."""
    asked = rows.messages(task(system_prompt="Be brief.", prompt_scaffold="Q: {input}\nA:"), ROW, [])
    assert asked == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Q: Who signs?\nA:"},
    ]
    assert rows.messages(task(), {"input": {"a": 1}}, []) == [{"role": "user", "content": '{"a":1}'}]


def test_documents_go_with_the_text():
    """An image becomes a data URL; a text stands under the field's name."""
    blobs = [rows.Blob("scan", "image/png", b"\x89PNG"), rows.Blob("note", "text/plain", b"hello")]
    (asked,) = rows.messages(task(), ROW, blobs)
    assert asked["content"] == [
        {"type": "text", "text": "Who signs?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "text", "text": "note:\nhello"},
    ]
    assert [rows.readable(m) for m in ("image/png", "text/csv", "application/pdf")] == [True, True, False]

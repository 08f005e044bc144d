"""The pages on the two protocols between processes list every kind, in the order of the code, with its fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pareta_agent.gateway.workers import worker_messages
from pareta_agent.ipc.message_table import MessageTable, field_names
from pareta_agent.node.upgrade import messages

DOCS = Path(__file__).parents[2] / "docs/internals"
TABLES = [
    ("worker-protocol.md", "Worker to main process", worker_messages.TO_MAIN),
    ("worker-protocol.md", "Main process to worker", worker_messages.TO_WORKER),
    ("upgrade-protocol.md", "Successor to predecessor", messages.TO_PREDECESSOR),
    ("upgrade-protocol.md", "Predecessor to successor", messages.TO_SUCCESSOR),
]


@pytest.mark.parametrize(("page", "section", "table"), TABLES, ids=[section for _, section, _ in TABLES])
def test_each_direction_is_listed_whole(page: str, section: str, table: MessageTable) -> None:
    """A kind or a field that the page or the code alone has is an error of one of the two."""
    text = (DOCS / page).read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    listed = [(kind.strip(" `"), tuple(re.findall(r"`(\w+)`", fields))) for kind, fields in rows]
    assert listed == [(kind, field_names(message)) for kind, message in table.by_kind.items()]

"""The generated parts of the docs: `python tests/docs.py` writes them, `tests/unit/test_map.py` fails when stale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import reference

from pareta_agent.engine.replica import lifecycle

ROOT = Path(__file__).parents[1]
COMMAND = "python tests/docs.py"


def diagram() -> str:
    return f"```mermaid\n{lifecycle.mermaid()}\n```"


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/reference/settings.md", "settings"): reference.settings,
    ("docs/reference/errors.md", "errors"): reference.errors,
    ("docs/reference/metrics.md", "metrics"): reference.metrics,
    ("docs/reference/metrics.md", "buckets"): reference.buckets,
    ("docs/reference/metrics.md", "engine-metrics"): reference.engine_metrics,
    ("docs/reference/cli.md", "overview"): reference.overview,
    ("docs/reference/cli.md", "pareta-agent"): reference.agent_commands,
    ("docs/reference/cli.md", "pareta-registry"): reference.registry_commands,
    ("ARCHITECTURE.md", "lifecycle"): diagram,
}


def filled(text: str, mark: str, part: str) -> str:
    """`text` with what stands between the marks replaced."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.S)
    return pattern.sub(lambda match: f"{match[1]}{part}\n{match[2]}", text)


if __name__ == "__main__":
    for (name, mark), write in PARTS.items():
        file = ROOT / name
        file.write_text(filled(file.read_text(), mark, write()))

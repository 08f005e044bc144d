"""The generated parts of the docs: `python tests/docs.py` writes them, `tests/unit/test_map.py` fails when stale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import reference

from pareta_agent import config
from pareta_agent.engine import lifecycle
from pareta_agent.front.envelope import CATALOGUE

ROOT = Path(__file__).parents[1]
COMMAND = "python tests/docs.py"


def settings() -> str:
    rows = [
        (f"`{key}`", f"`{env}`", default, meaning) for key, env, default, meaning in config.setting_rows()
    ]
    return reference.table(("Key", "Environment", "Default", "Meaning"), rows)


def errors() -> str:
    rows = [(str(status), f"`{code}`", said) for code, (status, _, said) in CATALOGUE.items()]
    return reference.table(("Status", "Code", "Says"), sorted(rows, key=lambda row: row[0]))


def diagram() -> str:
    return f"```mermaid\n{lifecycle.mermaid()}\n```"


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "settings"): settings,
    ("README.md", "errors"): errors,
    ("docs/reference/settings.md", "settings"): reference.settings,
    ("docs/reference/errors.md", "errors"): reference.errors,
    ("docs/reference/metrics.md", "metrics"): reference.metrics,
    ("docs/reference/metrics.md", "buckets"): reference.buckets,
    ("docs/reference/metrics.md", "engine-metrics"): reference.engine_metrics,
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

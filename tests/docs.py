"""The generated parts of the docs: `python tests/docs.py` writes them, `tests/unit/test_map.py` fails when stale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pareta_agent import config
from pareta_agent.engine import lifecycle
from pareta_agent.front.engine_metrics import EXPORTED
from pareta_agent.front.envelope import CATALOGUE
from pareta_agent.telemetry.series import TABLE

ROOT = Path(__file__).parents[1]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings() -> str:
    rows = [
        (f"`{key}`", f"`{env}`", default, meaning) for key, env, default, meaning in config.setting_rows()
    ]
    return table(("Key", "Environment", "Default", "Meaning"), rows)


def errors() -> str:
    rows = [(str(status), f"`{code}`", said) for code, (status, _, said) in CATALOGUE.items()]
    return table(("Status", "Code", "Says"), sorted(rows, key=lambda row: row[0]))


def metrics() -> str:
    rows = [(f"`{s.name}`", s.kind, " ".join(f"`{label}`" for label in s.labels), s.meaning) for s in TABLE]
    return table(("Series", "Kind", "Labels", "Meaning"), rows)


def engine_metrics() -> str:
    rows = [
        (f"`pareta_engine_{name}`", f"`{source}`", kind, said)
        for source, (name, kind, said) in EXPORTED.items()
    ]
    return table(("Series", "Engine's name", "Kind", "Meaning"), rows)


def diagram() -> str:
    return f"```mermaid\n{lifecycle.mermaid()}\n```"


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "settings"): settings,
    ("README.md", "errors"): errors,
    ("deploy/prometheus/README.md", "metrics"): metrics,
    ("deploy/prometheus/README.md", "engine-metrics"): engine_metrics,
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

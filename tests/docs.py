"""Writes the generated parts of the docs from the code: `python tests/docs.py` (tests fail when they are stale)."""

import re
from pathlib import Path

from pareta_agent import config

ROOT = Path(__file__).parents[1]


def settings_table() -> str:
    rows = [
        f"| `{key}` | `{env}` | {default} | {meaning} |"
        for key, env, default, meaning in config.setting_rows()
    ]
    return "\n".join(["| Key | Environment | Default | Meaning |", "|---|---|---|---|", *rows])


def put(file: Path, mark: str, text: str) -> None:
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.S)
    file.write_text(pattern.sub(lambda m: f"{m[1]}{text}\n{m[2]}", file.read_text()))


if __name__ == "__main__":
    put(ROOT / "README.md", "settings", settings_table())

"""Terminal output of `serve`: prints phases with progress, problems with remedies, and the Ready block last.

Messages go to standard error; the Ready block and JSON lines go to standard output. Progress bars require a terminal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from pareta_agent.node.readiness import Ready
from pareta_agent.telemetry.events import Event, Phase

QUIET_PROGRESS_S = 10.0
SAID = {
    "install": "engine interpreter",
    "check": "kernels against float32",
    "import": "engine imports",
    "load": "weights into memory",
    "profile": "memory profile, KV cache",
    "probe": "health and canary",
}


class _Amount(ProgressColumn):
    """Bytes as MB, anything else as `3/7`."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._count = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        return (self._bytes if task.fields["unit"] == "bytes" else self._count).render(task)


class Terminal:
    """A bus listener for an operator: a line for each finished phase, a bar for each phase in progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("  {task.description}"), BarColumn(30), _Amount(), console=console, transient=True
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._last_said: dict[tuple[str, str], float] = {}

    def __call__(self, event: Phase | Event) -> None:
        if isinstance(event, Phase):
            self._phase(event)
        elif event.level in ("warning", "error"):
            self._problem(event)
        elif event.name == "waiting_for_endpoints":
            self._waiting(event.fields)

    def say(self, markup: str) -> None:
        self._console.print(markup, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._tasks:
            self._bars.stop()

    def _waiting(self, fields: Mapping[str, Any]) -> None:
        self.say("waiting for endpoints: the control plane requires none of this node")
        for key in ("base_url", "plane"):
            self.say(f"    [dim]{key}[/] {escape(fields[key])}")

    def _problem(self, event: Event) -> None:
        """The event with its reason on one line; further fields and the remedy below."""
        fields = {key: str(value) for key, value in event.fields.items() if value not in (None, "")}
        style = "yellow" if event.level == "warning" else "bold red"
        what = [fields.pop(key) for key in ("endpoint", "reason") if key in fields]
        code = fields.pop("code", "")
        self.say(
            f"[{style}]{event.name.replace('_', ' ')}[/] {escape(': '.join(what))}{f' ({code})' if code else ''}"
        )
        remedy = fields.pop("remedy", "")
        for key, value in fields.items():
            for line in value.splitlines():
                self.say(f"    [dim]{key}[/] {escape(line)}")
        if remedy:
            self.say(f"    [bold]try[/] {escape(remedy)}")

    def _phase(self, event: Phase) -> None:
        key = (event.endpoint, event.phase)
        if event.state in ("done", "failed"):
            self._finish(key, event)
        elif self._console.is_terminal:
            self._show_bar(key, event)
        elif event.state == "started" or time.monotonic() - self._last_said.get(key, 0) >= QUIET_PROGRESS_S:
            self._last_said[key] = time.monotonic()
            self.say(f"  … {self._label(event)}{_percent(event)}")

    def _finish(self, key: tuple[str, str], event: Phase) -> None:
        if (task := self._tasks.pop(key, None)) is not None:
            self._bars.remove_task(task)
            if not self._tasks:
                self._bars.stop()
        mark = "[green]✓[/]" if event.state == "done" else "[red]✗[/]"
        took = "" if event.seconds is None else f" [dim]{event.seconds:.1f} s[/]"
        detail = f"  {escape(event.detail)}" if event.detail else ""
        self.say(f"  {mark} {self._label(event)}{took}{detail}")

    def _show_bar(self, key: tuple[str, str], event: Phase) -> None:
        if key not in self._tasks:
            self._bars.start()
            self._tasks[key] = self._bars.add_task(self._label(event), total=None, unit=event.unit)
        self._bars.update(self._tasks[key], total=event.total, completed=event.done or 0, unit=event.unit)

    def _label(self, event: Phase) -> str:
        phase = SAID.get(event.phase, event.phase)
        return f"{event.endpoint}  {phase}" if event.endpoint else phase


class JsonLines:
    """A bus listener for scripts: one JSON object a line, with `event` first."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __call__(self, event: Phase | Event) -> None:
        if isinstance(event, Phase):
            fields = {name: getattr(event, name) for name in Phase.__slots__}
            self.line("phase", fields)
        else:
            self.line(event.name, {"level": event.level, **event.fields})

    def close(self) -> None:
        """Nothing to close."""

    def line(self, name: str, fields: dict[str, Any]) -> None:
        self._write(_json({"event": name, **fields}) + "\n")


def _json(fields: dict[str, Any]) -> str:
    """One line for any field. Values that orjson refuses (invalid Unicode, a huge integer) are escaped."""
    try:
        return orjson.dumps(fields, default=str).decode()
    except TypeError:
        return json.dumps(fields, default=str)


def ready_fields(ready: Ready, api_key: str | None) -> dict[str, Any]:
    """The fields of the `ready` line. The names are a contract with operators' scripts."""
    return {
        "base_url": ready.base_url,
        "api_key": api_key,
        "endpoints": [
            {"id": e.id, "task": e.task, "alias": e.alias, "status": e.status} for e in ready.endpoints
        ],
        "metrics_url": ready.metrics_url,
        "pid": ready.pid,
    }


def ready_block(ready: Ready, api_key: str | None) -> str:
    """The last output of `serve` for an operator: address, key, endpoints, and two examples that run unchanged."""
    live = [e for e in ready.endpoints if e.status == "live"] or list(ready.endpoints)
    model = live[0].id if live else "<endpoint>"
    note = (
        "printed once; `pareta-agent keys create` creates another"
        if api_key
        else "printed at the first start"
    )
    key = api_key or "$PARETA_API_KEY"
    endpoints = "\n".join(f"  Endpoint   {e.id}  ({e.task}, {e.alias}: {e.status})" for e in ready.endpoints)
    notes = "".join(f"  Numerics   {note}\n" for note in ready.workarounds)
    python_key = f'"{api_key}"' if api_key else 'os.environ["PARETA_API_KEY"]'
    imports = "from openai import OpenAI" if api_key else "import os; from openai import OpenAI"
    return f"""
Ready in {ready.seconds:.0f} s

  Base URL   {ready.base_url}
  API key    {key}  ({note})
{endpoints}
{notes}  Metrics    {ready.metrics_url}
  Stop       Ctrl-C

curl:

curl {ready.base_url}/chat/completions \\
  -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

Python (pip install openai):

{imports}
client = OpenAI(base_url="{ready.base_url}", api_key={python_key})
answer = client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "What is the capital of France?"}}]
)
print(answer.choices[0].message.content)
"""


def _percent(event: Phase) -> str:
    return f" {100 * (event.done or 0) // event.total} %" if event.total else ""

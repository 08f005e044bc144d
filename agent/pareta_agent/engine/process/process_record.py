"""Process records: stores each engine's pid, start time and plan on disk before the start, a file per replica.

After a crash the next agent reads here the last generation and the process of each replica.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pareta_agent.planning.plan import Plan
from pareta_registry.files import write_atomically

_PLAN = TypeAdapter(Plan)


@dataclass(frozen=True, slots=True)
class Intent:
    """`pid` and `started` are None until the process runs; `segments` are the files in /dev/shm; `ready`: the engine
    served.

    `wish` names the plan's inputs; `gpu_free_bytes` is the GPUs' free memory before the start; `sleeps`: the engine
    was started with sleep enabled.
    """

    endpoint: str
    index: int
    generation: int
    marker: str
    boot_id: str
    spec: str = ""
    pid: int | None = None
    started: int | None = None
    ready: bool = False
    ended: bool = False
    version: str | None = None
    segments: tuple[str, ...] = ()
    wish: str = ""
    plan: Plan | None = None
    gpu_free_bytes: Mapping[str, int] = field(default_factory=dict)
    sleeps: bool = False

    @property
    def gpus(self) -> tuple[str, ...]:
        """Uuids of the GPUs that this replica has to itself."""
        return self.plan.group(self.index) if self.plan is not None else ()


class Intents:
    """The intents of this node, in a directory that only this agent writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, intent: Intent) -> None:
        """Durable on return: a crash leaves the old or the new record. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._path(intent.endpoint, intent.index), json.dumps(asdict(intent)).encode())

    def read(self, endpoint: str, index: int) -> Intent | None:
        return _load(self._path(endpoint, index))

    def all(self) -> list[Intent]:
        """Every readable record; a broken record cannot come from `write` and is left out."""
        found = (_load(path) for path in sorted(self._directory.glob("*.intent")))
        return [intent for intent in found if intent is not None]

    def _path(self, endpoint: str, index: int) -> Path:
        return self._directory / f"{endpoint}-{index}.intent"


def _load(path: Path) -> Intent | None:
    try:
        fields = json.loads(path.read_text())
        plan = _plan(fields.get("plan"))
        return Intent(**{**fields, "segments": tuple(fields["segments"]), "plan": plan})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _plan(fields: object) -> Plan | None:
    """None also for a record of another agent version in another shape."""
    try:
        return _PLAN.validate_python(fields)
    except ValidationError:
        return None


def boot_id() -> str:
    """This boot of the machine: pids and start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

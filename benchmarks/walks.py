"""How many files one streamed chat call crosses, from the socket to the ledger row, and one deploy, until it is live.

A node with the fake engine and its embedded plane run under a profiler (`walk_tracer/sitecustomize.py`). Functions
that an idle node calls as well are no part of a walk. `python benchmarks/walks.py [--write FILE]` takes a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Agent, fake_engine

TRACER = Path(__file__).resolve().parent / "walk_tracer"
IDLE_S, DELIVERY_S, SWITCH_S = 14.0, 3.0, 0.5
BACKGROUND = ("control/plan_answers.py", "control/plan_queries.py")  # polled by chance within a walk


class Tracer:
    """Records walks of every process that has `folder` in its environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def walk(self, name: str) -> Iterator[None]:
        self._switch(name)
        yield
        self._switch("")

    def calls(self, name: str) -> dict[str, list[tuple[str, str]]]:
        """(file, function) in the order of the first calls, for the agent and for the plane."""
        found = {}
        for file in self._folder.glob(f"{name}.*.json"):
            said = json.loads(file.read_text())
            process = "plane" if "plane" in said["argv"][0] else "agent"
            found[process] = [(_short(file), function) for file, function in said["calls"]]
        return found

    def _switch(self, name: str) -> None:
        new = self._folder / "walk.new"
        new.write_text(name)
        new.rename(self._folder / "walk")
        time.sleep(SWITCH_S)


def _short(file: str) -> str:
    _, package, rest = file.partition("/pareta_agent/")
    return rest if package else file[file.rindex("pareta_registry/") :]


def measure() -> dict[str, dict[str, list[str]]]:
    """The files of each walk by process, in the order in which they were first called."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "trace"
        folder.mkdir()
        settings = {
            "PARETA_ENGINE_COMMAND": fake_engine(),
            "PYTHONPATH": str(TRACER),
            "WALK_TRACE": str(folder),
        }
        tracer = Tracer(folder)
        with Agent(Path(place) / "home", settings=settings) as agent:
            ready = agent.ready()
            _walk(tracer, ready["base_url"], ready["api_key"])
        idle = tracer.calls("idle")
        return {
            name: {
                process: _files([call for call in calls if call not in idle[process]])
                for process, calls in sorted(tracer.calls(name).items())
            }
            for name in ("chat", "deploy")
        }


def _walk(tracer: Tracer, base_url: str, key: str) -> None:
    chat = {"model": "ep_contract_kie", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    with httpx.Client(timeout=60, headers={"authorization": f"Bearer {key}"}) as client:
        time.sleep(DELIVERY_S)
        with tracer.walk("idle"):
            time.sleep(IDLE_S)
        with tracer.walk("chat"):
            client.post(f"{base_url}/chat/completions", json=chat).raise_for_status()
            time.sleep(DELIVERY_S)
        with tracer.walk("deploy"):
            wish = {"task": "contract-key-fields", "name": "second"}
            said = client.post(f"{base_url}/endpoints", json=wish).raise_for_status().text
            assert "event: complete" in said, said


def _files(calls: list[tuple[str, str]]) -> list[str]:
    return [file for file in dict.fromkeys(file for file, _ in calls) if file not in BACKGROUND]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    where = parser.parse_args().write
    found = measure()
    counts = {name: {process: len(files) for process, files in walk.items()} for name, walk in found.items()}
    text = json.dumps({"counts": counts, "files": found}, indent=2) + "\n"
    if where:
        where.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

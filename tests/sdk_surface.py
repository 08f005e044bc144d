"""What there is to the `pareta` SDK and its command, and what of it a test has used: the package itself says it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import typer
from pareta import cli

RESOURCES = ("endpoints", "tasks", "evals", "models", "chat")


def methods() -> dict[CodeType, str]:
    """Every public method of every resource, sync and async, by its code."""
    return {
        method.__code__: f"{owner.__name__}.{name}"
        for resource in RESOURCES
        for _, owner in inspect.getmembers(
            importlib.import_module(f"pareta.resources.{resource}"), inspect.isclass
        )
        if owner.__module__ == f"pareta.resources.{resource}"
        for name, method in vars(owner).items()
        if not name.startswith("_") and inspect.isfunction(method)
    }


def verbs() -> set[tuple[str, ...]]:
    """Every verb of the command that is about those resources."""
    return {path for path in _walk(typer.main.get_command(cli.app)) if path[0] in RESOURCES}


@contextmanager
def used() -> Iterator[set[str]]:
    """Fills with the names of the methods that this thread calls meanwhile."""
    known, seen = methods(), set[str]()

    def look(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (name := known.get(frame.f_code)) is not None:
            seen.add(name)

    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not hasattr(command, "commands"):
        yield path
        return
    for name, each in command.commands.items():
        yield from _walk(each, (*path, name))

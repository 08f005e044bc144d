"""Shared options of `pareta-registry`, and the output of each command: data to stdout, messages to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyOption = Annotated[list[Path] | None, typer.Option("--key", help="Private key to sign with. Repeatable.")]
BucketOption = Annotated[
    Path | None,
    typer.Option(
        "--object-store-file",
        envvar="PARETA_REGISTRY_OBJECT_STORE_FILE",
        help="JSON file of obstore's options.",
    ),
]
ChannelOption = Annotated[str, typer.Option("--channel", help="The channel to point.")]
DockerOption = Annotated[
    Path | None,
    typer.Option("--docker-config", envvar="PARETA_REGISTRY_DOCKER_CONFIG", help="config.json with `auths`."),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca-file", envvar="PARETA_REGISTRY_CA_FILE", help="CA bundle (PEM).")
]


def emit(value: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        lines = [(name, item) for name, items in value.items() for item in _lines(items)]
        sys.stdout.writelines(f"{name:12}{item}\n" for name, item in lines)


def _lines(value: Any) -> list[Any]:
    return (value or ["none"]) if isinstance(value, list) else [value]


def wrote(paths: Sequence[Path], as_json: bool) -> None:
    if as_json:
        emit({"wrote": [str(path) for path in paths]}, True)
    else:
        for path in paths:
            note(f"wrote {path}")


def note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()

"""Server command of `pareta-registry`: serves published catalogs until SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from pareta_registry import early_signals
from pareta_registry.errors import ArtifactError


def serve(
    root: Path,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 selects a free port.")] = 8090,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> None:
    """Serve published catalogs over HTTP (read-only, with ETags)."""
    asyncio.run(_serve(root, host.removeprefix("[").removesuffix("]"), port, as_json))


async def _serve(root: Path, host: str, port: int, as_json: bool) -> None:
    from pareta_registry.channels.server import serve as listen

    if not root.is_dir():
        raise ArtifactError(
            "artifact_missing", f"{root} is no directory", "promote a catalog to that directory first"
        )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    if early_signals.take():
        return
    try:
        runner = await listen(root, host, port)
    except OSError as error:
        raise ArtifactError(
            "port_taken", f"cannot listen on {host}:{port}: {error.strerror}", "choose another --port"
        ) from None
    url = f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
    sys.stderr.write(f"serving {root} on {url}\n")
    sys.stderr.flush()
    if as_json:
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
    await ended.wait()
    await runner.cleanup()

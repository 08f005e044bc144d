"""Plane server: runs database, seed and HTTP server; prints one ready line, then serves until SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI

from pareta_agent.catalog.location import CatalogLocation, cached_catalog, catalog_state
from pareta_agent.catalog.source import CatalogSource
from pareta_agent.plane import probes, public_app
from pareta_agent.plane.api.node_api import Caller, create_app
from pareta_agent.plane.evals import vendors
from pareta_agent.plane.evals.mount import mount
from pareta_agent.plane.evals.runner import Runner
from pareta_agent.plane.plane import Plane, first_key, open_plane
from pareta_agent.plane.seed import FIRST_KEY, Seed, node_token
from pareta_registry import early_signals
from pareta_registry.catalog import Catalog


def apply_seed(plane: Plane, home: Path, seed: Seed) -> None:
    """Applies the seed."""
    plane.orgs.ensure(seed.org, seed.balance_micro_usd)
    plane.nodes.ensure(seed.node, node_token(home))
    plane.desired_state.replace([each.wanted(seed.org) for each in seed.endpoints])


def serve(
    home: Path,
    seed: Seed | None,
    url: str | None,
    host: str,
    port: int,
    log: Path | None = None,
    frontier: Path | None = None,
    catalog_source: CatalogSource | None = None,
) -> int:
    """Runs the plane and returns the exit status; 4 when the address is taken.

    With `log`, output after the ready line goes to that file. A standalone plane follows `catalog_source`; an
    embedded plane reads the node's stored catalog.

    Raises ConfigError for an unreadable vendor list (`frontier`), RegistryError when the source has no catalog.
    """
    os.umask(0o077)
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        print(f"the plane cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 4
    models = vendors.read(seed.frontier if seed else frontier)
    plane, database = open_plane(home, url)
    app = create_app(plane)
    probes.mount(app, plane, database)
    if seed is not None:
        apply_seed(plane, home, seed)
        _show_first_key(app, plane, seed.org)
    catalog = _catalog(home, seed, catalog_source)
    public_app.mount(app, catalog)
    runner = mount(app, plane, database, catalog, models)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    ready = {"port": listener.getsockname()[1]}
    try:
        _Server(config, ready, log, runner, plane.leaving, catalog_source).run(sockets=[listener])
    finally:
        database.close()
    return 0


def _catalog(home: Path, seed: Seed | None, catalog_source: CatalogSource | None) -> Callable[[], Catalog]:
    if catalog_source is not None:
        return lambda: catalog_source.catalog
    return cached_catalog(
        CatalogLocation(seed.catalog if seed else None, catalog_state(home), seed.channel if seed else "")
    )


def _show_first_key(app: FastAPI, plane: Plane, org: str) -> None:
    @app.post(FIRST_KEY, include_in_schema=False)
    def show(_: Caller) -> dict[str, str | None]:
        return {"api_key": first_key(plane, org)}


class _Server(uvicorn.Server):
    """Prints the ready line on stdout once listening, because the parent process waits for the line."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: dict[str, object],
        log: Path | None,
        runner: Runner,
        leaving: asyncio.Event,
        catalog_source: CatalogSource | None,
    ) -> None:
        super().__init__(config)
        self._ready, self._log, self._runner, self._leaving = ready, log, runner, leaving
        self._catalog_source = catalog_source

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        if self._catalog_source is None:
            await super().serve(sockets)
            return
        await self._catalog_source.open()
        self._ready["catalog"] = self._catalog_source.view()
        following = asyncio.create_task(self._catalog_source.run(_noted))
        following.add_done_callback(self._ended)
        try:
            await super().serve(sockets)
        finally:
            following.cancel()
            await asyncio.wait({following})
            await self._catalog_source.close()
        if not following.cancelled():
            following.result()

    def _ended(self, _following: asyncio.Task[None]) -> None:
        """Ends the process when following the catalog failed: a plane without updates should be restarted."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # modules and routes stay: no collection need walk them
        gc.enable()
        self._evals = asyncio.create_task(self._runner.run())
        sys.stdout.write(orjson.dumps(self._ready).decode() + "\n")
        sys.stdout.flush()
        if self._log is not None:
            _redirect(self._log)

    async def main_loop(self) -> None:
        """Handles a stop that arrived before uvicorn installed handlers."""
        self.should_exit = self.should_exit or early_signals.take()
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leaving.set()  # otherwise uvicorn waits for polls of disconnected nodes
        await super().shutdown(sockets)


async def _noted(_catalog: Catalog) -> None:
    """Does nothing: each request reads the catalog anew."""


def _redirect(log: Path) -> None:
    """Redirects output to the log: after the ready line no process reads the pipe, and a full pipe would block
    writers.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)

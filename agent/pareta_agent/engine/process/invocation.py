"""Invocation: builds an engine's program, arguments and whole environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pareta_agent import processes
from pareta_agent.engine.process import compiled_cache
from pareta_agent.engine.process.run_dir import RunDir
from pareta_agent.engine.spec import EngineSettings, EngineSpec
from pareta_agent.engine.vllm import command
from pareta_agent.errors import HostError


def invocation(
    spec: EngineSpec,
    settings: EngineSettings,
    run_dir: RunDir,
    gpus: Sequence[str],
    weights: Path,
    threads: int | None,
    *,
    sleeps: bool,
) -> tuple[list[str], list[str], dict[str, str]]:
    """The program, the arguments and the environment, with a compiled cache that is ready.

    Raises HostError, EngineError.
    """
    target = command.Launch(
        endpoint=spec.endpoint,
        model=weights,
        socket=run_dir.socket,
        tmp_dir=run_dir.tmp,
        cache_dir=compiled_cache.ready(settings, run_dir.tmp / "c"),
        marker=run_dir.marker,
        gpus=tuple(gpus),
        shutdown_s=max(1, round(settings.drain_s)),
        remote_code=spec.remote_code,
        sleeps=sleeps,
        threads=threads or 1,
    )
    env = command.environment(spec.plan, target, settings.version, processes.environment())
    if settings.python is not None:  # what compiles looks for the interpreter's own ninja there
        env["PATH"] = os.pathsep.join((str(settings.python.parent), env.get("PATH", os.defpath)))
    return _program(settings), command.arguments(spec.plan, target, settings.version), env


def _program(settings: EngineSettings) -> list[str]:
    if settings.command:
        return list(settings.command)
    if settings.python is None:
        raise HostError("engine_missing", "no engine is installed", "run `pareta-agent engine install`")
    return [str(settings.python), "-m", command.MODULE]

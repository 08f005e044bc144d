"""Engine spec: the node's settings for engines, and the desired engines of an endpoint.

Values only. Defaults of the engine settings are written here and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pareta_agent.planning.plan import Plan
from pareta_registry.catalog import Canary

FetchProgress = Callable[[str, int, int | None], None]
"""Told of (`fetch` or `verify`, bytes done, bytes in all or None)."""

Fetch = Callable[[FetchProgress], Awaitable[Path]]
"""Brings the weights here and answers their directory; idempotent. Raises AgentError."""


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """Seconds without any progress after which a phase counts as hung; a slow phase that moves is never cut."""

    fetch_s: float = 900.0
    spawn_s: float = 60.0
    import_s: float = 300.0
    load_s: float = 600.0
    profile_s: float = 600.0
    compile_s: float = 1200.0
    capture_s: float = 600.0
    probe_s: float = 120.0


@dataclass(frozen=True, slots=True)
class RestartSettings:
    """`budget` counts failures in a row; a life of `healthy_s` or more clears the count."""

    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    jitter_ratio: float = 0.2
    budget: int = 5
    healthy_s: float = 300.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`home_id` marks our processes among all others; `run_dir` must be short (sockets hold 107 bytes of path).

    `python` is the engine's interpreter; `command` replaces `python -m vllm…` by a program with the same arguments.
    `drain_s` is the time for requests in flight after a stop request. `threads` None: by the engine's share of cores.

    `progress_s` bounds the time without a token while requests are in flight, the canary's included; then the engine
    is ended. An idle engine receives a canary every `idle_canary_s`. `adopt`: healthy engines that outlived an earlier
    agent are taken over, else removed.

    `standby` is the number of warm interpreters for the next starts (about 500 MB each; 0: none). `standby_untried`
    includes engines and devices without a tested standby, to test. `read_ahead`: weights are read into the page cache
    while the engine imports. `log_max_bytes` bounds the log of a generation.
    """

    home_id: str
    run_dir: Path
    state_dir: Path
    log_dir: Path
    cache_dir: Path
    python: Path | None = None
    version: str = "0.32.0"
    command: tuple[str, ...] | None = None
    canary: bool = True
    drain_s: float = 30.0
    progress_s: float = 60.0
    idle_canary_s: float = 300.0
    adopt: bool = True
    threads: int | None = None
    standby: int = 1
    standby_untried: bool = False
    read_ahead: bool = True
    log_max_bytes: int = 16 * 2**20
    limits: PhaseLimits = field(default_factory=PhaseLimits)
    restart: RestartSettings = field(default_factory=RestartSettings)


def digest(settings: EngineSettings, spec: EngineSpec, index: int) -> str:
    """Digest of the engine at that index, wherever the neighbours run. An equal live engine equals a new start."""
    plan = replace(spec.plan, gpus=(spec.plan.group(index),), replicas=1)
    parts = (spec.endpoint, spec.revision, plan, settings.version, settings.command, settings.python)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Desired engines of an endpoint: equal specs need the same engines; `revision` names the weights' bytes.

    `shared`: several endpoints run on the engines, each by an `AdapterEndpointSpec`. `wish` names the plan's inputs:
    after an agent restart, the same `wish` finds the plan that still runs. `may_sleep` is called at each start:
    whether the engine can then sleep with weights in the host's memory.
    """

    endpoint: str
    org: str
    task: str
    alias: str
    plan: Plan
    fetch: Fetch = field(compare=False)
    revision: str = ""
    canaries: tuple[Canary, ...] = ()
    system_prompt: str | None = None
    tokenize: bool = False
    remote_code: bool = False
    created_s: int = field(default=0, compare=False)
    listed: bool = field(default=True, compare=False)
    wish: str = field(default="", compare=False)
    shared: bool = False
    may_sleep: Callable[[], bool] = field(default=lambda: False, compare=False)


@dataclass(frozen=True, slots=True)
class AdapterEndpointSpec:
    """Desired state of an endpoint on a shared `engine`: an adapter there, or the base's own weights.

    `revision` names the adapter's bytes, and `fetch` fetches the adapter; both are None for the base's own weights,
    with the engine's canaries.
    """

    endpoint: str
    org: str
    task: str
    alias: str
    engine: str
    revision: str | None = None
    fetch: Fetch | None = field(default=None, compare=False)
    canaries: tuple[Canary, ...] = ()
    system_prompt: str | None = None
    tokenize: bool = False
    created_s: int = field(default=0, compare=False)
    listed: bool = field(default=True, compare=False)

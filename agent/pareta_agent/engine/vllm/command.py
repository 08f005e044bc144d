"""vLLM command: builds the command line and environment of a plan. Pure: paths are quoted, never opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pareta_agent.engine.vllm import caches, structured, versions
from pareta_agent.errors import EngineError
from pareta_agent.planning.plan import Plan

MODULE = "vllm.entrypoints.openai.api_server"
_GIB = 1024**3
_NO_COMPILER = "TORCHDYNAMO_DISABLE"
"""Eager engines on the CPU compile nothing: each first use costs half a minute of C++, and needs a compiler here."""
_STEERS_VLLM = ("VLLM_", "HF_", "OMP_", "PYTHON", "KMP_", "TRANSFORMERS_", "CUDA_VISIBLE_DEVICES")
_OURS_TO_SET = ("PARETA_", *_STEERS_VLLM, _NO_COMPILER)


@dataclass(frozen=True, slots=True)
class Launch:
    """The address of an engine: socket, private temporary directory, and served name."""

    endpoint: str
    model: Path
    socket: Path
    tmp_dir: Path
    cache_dir: Path
    marker: str
    gpus: tuple[str, ...] = ()
    shutdown_s: int = 30
    threads: int = 1
    remote_code: bool = False
    sleeps: bool = False


def arguments(plan: Plan, launch: Launch, version: str) -> list[str]:
    """vLLM's arguments. Raises EngineError(`flag_unknown`) when the plan has a flag unknown to this version."""
    known = versions.parse(version)
    args = [
        *("--model", str(launch.model), "--served-model-name", launch.endpoint, "--uds", str(launch.socket)),
        *("--disable-fastapi-docs", "--fingerprint-mode", "none", "--enable-prompt-tokens-details"),
        *("--disable-uvicorn-access-log", "--shutdown-timeout", str(launch.shutdown_s)),
        *("--dtype", plan.dtype, "--max-model-len", str(plan.max_model_len)),
        *("--max-num-seqs", str(plan.max_num_seqs)),
        *("--max-num-batched-tokens", str(plan.max_num_batched_tokens)),
    ]
    if plan.kv_cache_dtype != "auto":
        args += ["--kv-cache-dtype", plan.kv_cache_dtype]
    if launch.remote_code:
        args.append("--trust-remote-code")
    if launch.sleeps and plan.platform == "cuda":  # a CPU engine sleeps without, and keeps all memory
        args.append("--enable-sleep-mode")
    if launch.sleeps:  # the routes are developers', and log more
        args.append("--no-log-error-stack")
    if plan.enforce_eager:
        args.append("--enforce-eager")
    args += _layout(plan)
    if plan.gpu_memory_utilization is not None and plan.kv_cache_bytes is None:
        args += ["--gpu-memory-utilization", str(plan.gpu_memory_utilization)]
    if plan.kv_cache_bytes is not None and _sizes_kv_by_flag(plan, known):
        args += ["--kv-cache-memory-bytes", str(plan.kv_cache_bytes)]
    for flag in plan.flags:
        if flag.startswith("--") and not versions.knows(known, flag.split("=")[0]):
            raise EngineError(
                "flag_unknown",
                f"vLLM {version} has no {flag.split('=')[0]}",
                "change the model's engine settings in the catalog, or install another engine version",
            )
    return [*args, *structured.settled(plan.flags)]


def _layout(plan: Plan) -> list[str]:
    sizes = {
        "--tensor-parallel-size": plan.tp,
        "--pipeline-parallel-size": plan.pp,
        "--data-parallel-size": plan.dp,
    }
    args = [word for flag, size in sizes.items() if size > 1 for word in (flag, str(size))]
    if plan.expert_parallel:
        args.append("--enable-expert-parallel")
    if not args:  # one device: the worker can live in the engine core, a process less to import and to lose
        args += ["--distributed-executor-backend", "uni"]
    return args


def _sizes_kv_by_flag(plan: Plan, known: versions.Version) -> bool:
    return plan.platform == "cuda" or known >= versions.CPU_KV_BYTES_SINCE


def base_environment(
    platform: str, tmp_dir: Path, cache_dir: Path, marker: str, threads: int, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment that all engines share, read as early as vLLM's import: the inherited variables, less vLLM's and
    ours, plus our own settings for vLLM.
    """
    env = {name: value for name, value in inherited.items() if not name.startswith(_OURS_TO_SET)}
    env |= {
        "PARETA_MARKER": marker,
        "TMPDIR": str(tmp_dir),
        "VLLM_RPC_BASE_PATH": str(tmp_dir),
        **caches.environment(cache_dir),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",  # the default of 5 s races the front's connection pool
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_LOGGING_COLOR": "0",
        "VLLM_DISABLE_LOG_LOGO": "1",
        "VLLM_PLUGINS": "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # SIGABRT makes the engine write stacks
    }
    if platform == "cpu":
        env |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
        env[_NO_COMPILER] = "1"
    return env


def environment(plan: Plan, launch: Launch, version: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The engine's whole environment."""
    env = base_environment(
        plan.platform, launch.tmp_dir, launch.cache_dir, launch.marker, launch.threads, inherited
    )
    if "--enable-lora" in plan.flags:
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"  # only we reach the socket
    if launch.sleeps:
        env["VLLM_SERVER_DEV_MODE"] = "1"  # only we reach the routes that this opens
    if plan.platform == "cuda":
        return {**env, "CUDA_VISIBLE_DEVICES": ",".join(launch.gpus)}
    if not plan.enforce_eager:
        env.pop(_NO_COMPILER, None)
    if "uni" in _layout(plan):  # else the CPU platform turns `uni` back into a worker process
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if plan.kv_cache_bytes is not None and not _sizes_kv_by_flag(plan, versions.parse(version)):
        env["VLLM_CPU_KVCACHE_SPACE"] = str(-(-plan.kv_cache_bytes // _GIB))
    return env

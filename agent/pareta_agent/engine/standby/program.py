"""Standby program: imports vLLM once in the engine's interpreter, waits, then becomes an API server that forks.

Standard input is a socket to the agent. Each message is a line of JSON, in this order:
- sends `ready` after the imports: the reason against a fork, the duration, the missing modules and the memory;
- receives the order: environment, cores, log, directory and arguments of an engine;
- sends `starting`, and is from then on that engine, under the same pid; or sends `refused` with the reason, and ends.

The program ends when the agent closes the socket before the order. It imports nothing of the agent.

vLLM's CPU platform forces `spawn`, which imports everything again in each child. `get_mp_context` therefore returns
`fork` here. A fork is safe only before CUDA is initialised and while no other thread runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
SERVERS = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
"""The modules of the API server: the second up to vLLM 0.25, which has no first."""
PARSERS = (
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.common.cli_args",
    "vllm.entrypoints.openai.cli_args",
)
PRELOAD = (
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.engine.core_client",
    "vllm.v1.engine.coordinator",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.executor.uniproc_executor",
    "vllm.model_executor.models.registry",
    "vllm.model_executor.model_loader.default_loader",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.entrypoints.serve.instrumentator",
    "vllm.entrypoints.serve.tokenize.api_router",
    "vllm.entrypoints.serve.lora.api_router",
    "vllm.entrypoints.openai.models.api_router",
    "vllm.entrypoints.generate.api_router",
    "vllm.entrypoints.scale_out.factories",
    "vllm.entrypoints.pooling.factories",
    "vllm.entrypoints.openai.chat_completion.api_router",
    "vllm.entrypoints.openai.completion.api_router",
    "vllm.entrypoints.openai.responses.api_router",
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.serve.sagemaker.api_router",
    "vllm.entrypoints.serve.elastic_ep.api_router",
    "vllm.v1.structured_output.backend_xgrammar",
    "vllm.v1.structured_output.backend_guidance",
    "vllm.tokenizers.hf",
    "vllm.renderers.hf",
    "transformers.models.auto.tokenization_auto",
    "transformers.tokenization_utils_tokenizers",
    "transformers.models.llama.configuration_llama",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "prometheus_fastapi_instrumentator",
    "setproctitle",
    "vllm.lora.worker_manager",
    "vllm.compilation.backends",
    "vllm.distributed.elastic_ep.elastic_execute",
    "vllm.model_executor.layers.quantization.online.base",
    "vllm.v1.core.sched.scheduler",
    "vllm.v1.pool.flash_maxsim.flash_maxsim_rerank",
    "vllm.triton_utils.dispatcher",
    "vllm.entrypoints.serve.instrumentator.metrics",
    "vllm.entrypoints.serve.profile.api_router",
    "vllm.entrypoints.serve.utils.fingerprint",
    "vllm.entrypoints.cohere.api_router",
    "vllm.entrypoints.generate.structured_decisions.api_router",
    "vllm.entrypoints.generate.generative_scoring.api_router",
    "vllm.entrypoints.scale_out.derender.api_router",
    "vllm.entrypoints.scale_out.render.api_router",
    "vllm.entrypoints.scale_out.token_in_token_out.api_router",
    "model_hosting_container_standards.sagemaker",
    "uvicorn.protocols.http.auto",
)
CPU = (
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.utils.cpu_triton_utils",
)
CUDA = (
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.attention.backends.flash_attn",
)


def preload() -> list[str]:
    """Imports the modules of a server and its core; returns the modules that this version does not have."""
    missing = []
    first_of(SERVERS)
    for name in (*PRELOAD, *(CUDA if built_for_cuda() else CPU)):
        try:
            importlib.import_module(name)
        except Exception as error:
            missing.append(f"{name}: {type(error).__name__}")
    with contextlib.suppress(Exception):  # the parser reads every config class's source once
        utils = importlib.import_module("vllm.utils.argparse_utils")
        first_of(PARSERS).make_arg_parser(utils.FlexibleArgumentParser())
    return missing


def built_for_cuda() -> bool:
    return getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None) is not None


def first_of(names: tuple[str, ...]) -> Any:
    """Imports the first of these modules that this version has; None without any."""
    for name in names:
        with contextlib.suppress(Exception):
            return importlib.import_module(name)
    return None


def server() -> Any:
    """The imported module of the API server."""
    return next((sys.modules[name] for name in SERVERS if name in sys.modules), None)


def unsafe() -> str | None:
    """The reason against a fork here, or None."""
    torch = sys.modules.get("torch")
    if torch is None or server() is None:
        return "vLLM could not be imported"
    if torch.cuda.is_initialized():
        return "CUDA is initialised"
    if threading.active_count() > 1:
        return "threads are running: " + ", ".join(thread.name for thread in threading.enumerate()[1:])
    return None


def fork_children() -> None:
    """Makes every later child of vLLM a fork of this process, which dies with the process and holds none of its
    sockets.
    """
    system_utils = importlib.import_module("vllm.utils.system_utils")
    spawning = system_utils.get_mp_context

    def get_mp_context() -> Any:
        return (
            multiprocessing.get_context("fork")
            if not sys.modules["torch"].cuda.is_initialized()
            else spawning()
        )

    for name, module in list(sys.modules.items()):
        if name.startswith("vllm.") and vars(module).get("get_mp_context") is spawning:
            vars(module)["get_mp_context"] = get_mp_context
    listening: list[int] = []
    _remember_sockets(listening)
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)  # otherwise a signal to the child wakes the parent's event loop
        for descriptor in listening:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    os.register_at_fork(after_in_child=in_child)


def inspect_here() -> None:
    """Inspects the class of an uncached model in this process.

    vLLM starts a subprocess for the inspection, to keep CUDA out of the parent. The subprocess would import everything
    again.
    """
    registry = sys.modules.get("vllm.model_executor.models.registry")
    if registry is not None and hasattr(registry, "_run_in_subprocess") and not built_for_cuda():
        vars(registry)["_run_in_subprocess"] = lambda look: look()


def _remember_sockets(listening: list[int]) -> None:
    for name in ("vllm.entrypoints.launchers.launcher", *SERVERS):
        module = sys.modules.get(name)
        for function in ("create_server_socket", "create_server_unix_socket"):
            if hasattr(module, function):
                setattr(module, function, _remembering(getattr(module, function), listening))


def _remembering(create: Callable[..., Any], listening: list[int]) -> Callable[..., Any]:
    def remembering(*args: Any, **kwargs: Any) -> Any:
        made = create(*args, **kwargs)
        listening.append(made.fileno())
        return made

    return remembering


def status(begun_s: float, missing: list[str]) -> dict[str, Any]:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    pss = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return {
        "ready": True,
        "unsafe": unsafe(),
        "preload_s": round(time.monotonic() - begun_s, 2),
        "missing": missing,
        "memory_bytes": pss,
        "version": getattr(sys.modules.get("vllm"), "__version__", None),
    }


def become(order: dict[str, Any]) -> None:
    """Takes on the order's environment, cores, log and arguments, and serves.

    Variables that a script in the interpreter's place had set (PYTHONPATH, say) stay, as at a plain launch.
    """
    for name, value in list(os.environ.items()):  # caches of the imports in the standby's own directory
        if value.startswith(f"{os.environ.get('TMPDIR')}/"):
            del os.environ[name]
    os.environ.update(order["env"], PARETA_MARKER=os.environ.get("PARETA_MARKER", ""))
    tempfile.tempdir = None  # cached by an import
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    os.chdir(order["cwd"])
    if beside := order.get("beside"):
        with contextlib.suppress(OSError):
            os.waitpid(os.posix_spawn(beside[0], beside, {}), 0)  # the program beside forks and detaches
    take_cores(order)
    sys.argv = ["vllm", *order["argv"]]
    serve(server())


def take_cores(order: dict[str, Any]) -> None:
    """Takes the order's part of the machine. torch has read a number of threads at its import; forks inherit the number
    set here.
    """
    if order["cpus"]:
        os.sched_setaffinity(0, order["cpus"])
    if threads := order["env"].get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))


def serve(module: Any) -> None:
    """Runs vLLM's server module like its main program, which newer versions have as a function."""
    if hasattr(module, "main"):
        module.main()
        return
    module.cli_env_setup()
    arguments = module.make_arg_parser(module.FlexibleArgumentParser()).parse_args()
    module.validate_parsed_serve_args(arguments)
    module.uvloop.run(module.run_server(arguments))


def main() -> int:
    begun_s = time.monotonic()
    control = socket.socket(fileno=os.dup(0))
    gc.disable()  # a collection would walk every import, again and again
    missing = preload()
    gc.enable()
    gc.collect()
    gc.freeze()  # imported objects are never collected, so forks share the pages
    control.sendall(json.dumps(status(begun_s, missing)).encode() + b"\n")
    with control.makefile("rb") as orders:
        line = orders.readline()
    if not line:
        return 0
    try:
        reason = unsafe()
        if reason is None:
            fork_children()
            inspect_here()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    control.sendall(json.dumps({"refused": reason} if reason else {"starting": True}).encode() + b"\n")
    control.close()
    if reason is None:
        # The file goes with the standby's directory, and spawned children would run the file first.
        vars(sys.modules["__main__"]).pop("__file__", None)
        become(json.loads(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())

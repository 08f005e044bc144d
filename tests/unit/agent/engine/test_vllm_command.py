"""A plan as vLLM's command line and environment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from engine_plans import PLAN

from pareta_agent.engine.vllm import versions
from pareta_agent.engine.vllm.caches import DIRECTORIES
from pareta_agent.engine.vllm.command import Launch, arguments, environment
from pareta_agent.errors import EngineError
from pareta_registry.engine_flags import argv

GIB = 1024**3
LAUNCH = Launch(
    endpoint="ep_x",
    model=Path("/w"),
    socket=Path("/r/s"),
    tmp_dir=Path("/r/t"),
    cache_dir=Path("/c"),
    marker="h/ep_x/0/1",
    threads=3,
)
GPU = replace(
    PLAN,
    platform="cuda",
    gpus=(("GPU-a", "GPU-b"),),
    tp=2,
    enforce_eager=False,
    gpu_memory_utilization=0.9,
    kv_cache_bytes=None,
    kv_cache_dtype="fp8",
)


def test_cpu_arguments_are_these() -> None:
    """The whole command line on CPU, in order."""
    line = (
        "--model /w --served-model-name ep_x --uds /r/s --disable-fastapi-docs --fingerprint-mode none "
        "--enable-prompt-tokens-details --disable-uvicorn-access-log --shutdown-timeout 30 --dtype float32 "
        "--max-model-len 1024 --max-num-seqs 4 --max-num-batched-tokens 1024 --enforce-eager "
        "--distributed-executor-backend uni --kv-cache-memory-bytes 268435456 --structured-outputs-config "
        '{"backend": "xgrammar", "disable_any_whitespace": true}'
    )
    assert " ".join(arguments(PLAN, LAUNCH, "0.32.0")) == line


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ({}, {"backend": "xgrammar", "disable_any_whitespace": True}),
        ({"disable_any_whitespace": True}, {"backend": "xgrammar", "disable_any_whitespace": True}),
        ({"disable_any_whitespace": False}, {"backend": "xgrammar", "disable_any_whitespace": False}),
        ({"backend": "guidance"}, {"backend": "guidance", "disable_any_whitespace": True}),
        ({"backend": "auto"}, {"backend": "auto"}),  # which vLLM refuses beside `disable_any_whitespace`
        ({"backend": "outlines"}, {"backend": "outlines"}),
        (
            {"enable_in_reasoning": True},
            {"backend": "xgrammar", "disable_any_whitespace": True, "enable_in_reasoning": True},
        ),
    ],
)
def test_structured_answers_are_compact(asked: dict[str, object], passed: dict[str, object]) -> None:
    """JSON without free whitespace by default, in which a small model would go on for ever; the catalog's word wins,
    and is never a combination with which vLLM would not start."""
    flags = argv({"reasoning_parser": "qwen3", "structured_outputs_config": asked, "seed": 1})
    args = arguments(replace(PLAN, flags=flags), LAUNCH, "0.32.0")
    assert args.count("--structured-outputs-config") == 1
    assert json.loads(args[args.index("--structured-outputs-config") + 1]) == passed
    assert args[-4:] == ["--reasoning-parser", "qwen3", "--seed", "1"]


def test_gpu_arguments_carry_the_layout() -> None:
    """Tensor parallelism needs worker processes, so no uni executor; utilization instead of bytes."""
    args = arguments(GPU, LAUNCH, "0.33.0")
    assert args[args.index("--tensor-parallel-size") + 1] == "2"
    assert args[args.index("--gpu-memory-utilization") + 1] == "0.9"
    assert args[args.index("--kv-cache-dtype") + 1] == "fp8"
    assert {"--enforce-eager", "--distributed-executor-backend", "--kv-cache-memory-bytes"}.isdisjoint(args)


def test_older_cpu_engines_take_whole_gib_from_the_environment() -> None:
    """Before 0.32 the KV cache on CPU is sized by the environment, rounded up."""
    plan = replace(PLAN, kv_cache_bytes=GIB + 1)
    assert "--kv-cache-memory-bytes" not in arguments(plan, LAUNCH, "0.25.1")
    assert environment(plan, LAUNCH, "0.25.1", {})["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment(plan, LAUNCH, "0.32.0", {})


def test_a_flag_the_version_lacks_is_refused_before_the_start() -> None:
    """Better a sentence now than exit status 2 in half a minute."""
    plan = replace(PLAN, flags=("--max-num-queued-reqs", "8"))
    assert arguments(plan, LAUNCH, "0.32.0")[-2:] == ["--max-num-queued-reqs", "8"]
    with pytest.raises(EngineError, match=r"vLLM 0\.25\.1 has no --max-num-queued-reqs"):
        arguments(plan, LAUNCH, "0.25.1")


def test_environment_is_ours_alone() -> None:
    """What steers vLLM is never inherited, nor are our secrets; the rest of the world is."""
    inherited = {
        "PATH": "/bin",
        "VLLM_SERVER_DEV_MODE": "1",
        "PARETA_TOKEN": "t",
        "HF_TOKEN": "t",
        "OMP_NUM_THREADS": "99",
        "PYTHONPATH": "/x",
    }
    env = environment(PLAN, LAUNCH, "0.32.0", inherited)
    assert env["PATH"] == "/bin"
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["PARETA_MARKER"] == "h/ep_x/0/1"
    assert {
        "VLLM_SERVER_DEV_MODE",
        "PARETA_TOKEN",
        "HF_TOKEN",
        "PYTHONPATH",
        "CUDA_VISIBLE_DEVICES",
    }.isdisjoint(env)


def test_gpus_are_named_by_uuid() -> None:
    """An engine sees its own GPUs, whatever the numbering."""
    env = environment(GPU, replace(LAUNCH, gpus=("GPU-a", "GPU-b")), "0.33.0", {"CUDA_VISIBLE_DEVICES": "7"})
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.32.0", (0, 32, 0)), ("0.33.1+cpu", (0, 33, 1)), ("0.34.0rc1", (0, 34, 0)), ("1.2", (1, 2, 0))],
)
def test_versions_are_three_numbers(text: str, expected: tuple[int, int, int]) -> None:
    """Local parts and release candidates do not matter to the gates."""
    assert versions.parse(text) == expected


def test_gone_flags_are_gone() -> None:
    """A flag may also have ended."""
    assert versions.knows((0, 26, 0), "--max-num-partial-prefills")
    assert not versions.knows((0, 27, 0), "--max-num-partial-prefills")


def test_remote_code_is_trusted_only_when_told() -> None:
    """The flag is there for a model that catalog and node trust, and for no other."""
    assert "--trust-remote-code" not in arguments(PLAN, LAUNCH, "0.32.0")
    assert "--trust-remote-code" in arguments(PLAN, replace(LAUNCH, remote_code=True), "0.32.0")


def test_only_what_may_sleep_is_open_to_developers() -> None:
    """vLLM's routes for sleep come with others that nobody else must reach, so no other engine has them."""
    sleeper = replace(LAUNCH, sleeps=True)
    assert "--enable-sleep-mode" in arguments(GPU, sleeper, "0.25.1")
    assert environment(GPU, sleeper, "0.32.0", {})["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--enable-sleep-mode" not in arguments(GPU, LAUNCH, "0.32.0")
    assert "VLLM_SERVER_DEV_MODE" not in environment(GPU, LAUNCH, "0.32.0", {"VLLM_SERVER_DEV_MODE": "1"})


def test_all_that_is_compiled_goes_to_the_builds_cache() -> None:
    """Wherever a library would keep it by itself, or the environment of the agent says."""
    inherited = {
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/x",
        "TRITON_CACHE_DIR": "/tmp/y",
        "XDG_CACHE_HOME": "/tmp/z",
    }
    env = environment(GPU, LAUNCH, "0.32.0", inherited)
    names = {name for name in env if "CACHE" in name or name in DIRECTORIES}
    assert names >= set(DIRECTORIES)
    assert {name: env[name] for name in names if not env[name].startswith("/c/")} == {}


def test_an_eager_engine_on_the_cpu_compiles_nothing() -> None:
    """Only it: a compiled one and one on a GPU need the compiler."""
    inherited = {"TORCHDYNAMO_DISABLE": "1"}
    engines = (PLAN, replace(PLAN, enforce_eager=False), GPU, replace(GPU, enforce_eager=True))
    disabled = [environment(plan, LAUNCH, "0.32.0", inherited).get("TORCHDYNAMO_DISABLE") for plan in engines]
    assert disabled == ["1", None, None, None]

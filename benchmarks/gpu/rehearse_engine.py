"""What a vLLM makes of command lines: its compiled parts, its options, and a model of each without memory for weights.

Runs in the engine's interpreter, under the stubs of `rehearse.py`; it reads {name: argv} and writes what it found as
JSON on the last line of its output. Models have two layers: enough to see which kernels their layers were given.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace
from typing import Any

import torch

PARTS = ("_C_stable_libtorch", "_moe_C_stable_libtorch", "_flashmla_C", "cumem_allocator", "vllm_flash_attn")
H100 = SimpleNamespace(name="H100", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132)


def pretend() -> None:
    """What torch would have to ask a device."""
    torch.cuda.get_device_properties = lambda *_: H100
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: 0


def loaded(part: str) -> str:
    try:
        importlib.import_module(f"vllm.{part}")
    except ImportError as error:
        return str(error)
    return "loaded"


def model(config: Any) -> Any:
    """The model that this configuration asks for, cut to two layers, on no device."""
    from vllm.config import set_current_vllm_config
    from vllm.distributed import (
        cleanup_dist_env_and_memory,
        init_distributed_environment,
        initialize_model_parallel,
    )
    from vllm.model_executor.model_loader.utils import initialize_model

    facts = config.model_config.hf_config
    facts.num_hidden_layers = 2
    if getattr(facts, "layer_types", None):
        facts.layer_types = facts.layer_types[:2]
    with set_current_vllm_config(config):
        init_distributed_environment(1, 0, "tcp://127.0.0.1:0", 0, backend="gloo")
        initialize_model_parallel(1, 1)
        torch.set_default_dtype(config.model_config.dtype)
        try:
            with torch.device("meta"):
                return initialize_model(config)
        finally:
            cleanup_dist_env_and_memory()


def kernels(built: Any) -> dict[str, str]:
    """The second layer's parts: who multiplies, who attends."""
    found = {}
    for name, part in built.named_modules():
        short = name.partition(".layers.1.")[2]
        method = getattr(part, "quant_method", None)
        if short and method is not None:
            chosen = [
                getattr(method, field, None) for field in ("fp8_linear", "fp8_backend", "mxfp4_backend")
            ]
            words = [getattr(one, "value", type(one).__name__) for one in chosen if one is not None]
            found[short] = " ".join([type(method).__name__, *words])
        if short and hasattr(part, "attn_backend"):
            found[short] = part.attn_backend.__name__
    return found


def rehearsed(parser: Any, argv: list[str]) -> dict[str, Any]:
    from vllm.engine.arg_utils import AsyncEngineArgs

    try:
        config = AsyncEngineArgs.from_cli_args(parser.parse_args(argv)).create_engine_config()
        row = {
            "max_model_len": config.model_config.max_model_len,
            "quantization": config.model_config.quantization,
        }
        return {**row, "kernels": kernels(model(config))}
    except (Exception, SystemExit) as error:  # the other shapes are still worth their time
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    pretend()
    from vllm import __version__
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    options = {word for action in parser._actions for word in action.option_strings if word.startswith("--")}
    found = {
        "vllm": __version__,
        "torch": torch.__version__,
        "parts": {part: loaded(part) for part in PARTS},
        "options": sorted(options - {"--help"}),
        "shapes": {name: rehearsed(parser, argv) for name, argv in json.load(sys.stdin).items()},
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()

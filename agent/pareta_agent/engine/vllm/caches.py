"""Cache variables: names the variables by which vLLM and the compilers find compiled caches. Pure.

Each library has a separate default (the home directory, TMPDIR), so each is named; XDG_CACHE_HOME is for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

DIRECTORIES: Final[Mapping[str, str]] = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch-extensions",
    "TRITON_HOME": "triton",
    "TRITON_CACHE_DIR": "triton/cache",
    "CUDA_CACHE_PATH": "cuda",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR": "flashinfer/autotune",
    "DG_JIT_CACHE_DIR": "deep-gemm",
    "DG_CACHE_DIR": "deep-gemm",
    "TILELANG_CACHE_DIR": "tilelang",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "CUTE_DSL_CACHE_DIR": "cute-dsl",
    "HELION_CACHE_DIR": "helion",
    "QUACK_CACHE_DIR": "quack",
    "NUMBA_CACHE_DIR": "numba",
    "XDG_CACHE_HOME": "other",
}
"""Variable to directory under the cache of an engine build."""


def environment(cache_dir: Path) -> dict[str, str]:
    return {name: str(cache_dir / directory) for name, directory in DIRECTORIES.items()}

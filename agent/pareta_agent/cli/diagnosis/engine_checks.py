"""Doctor checks of the engine: its compilers and the result of the kernel check. Pure."""

from __future__ import annotations

from pareta_agent.cli.diagnosis.findings import Finding, HostFacts


def toolchain(facts: HostFacts) -> Finding:
    """A GPU engine compiles at run time: Triton with a C compiler and Python's headers, FlashInfer with nvcc."""
    if facts.engine_platform != "cuda":
        return Finding("toolchain", "ok", "engines on the CPU compile nothing")
    missing = [] if facts.compiler else ["a C compiler (gcc or clang)"]
    missing += ["Python's headers (Python.h)"] if facts.python_headers is False else []
    if missing:
        return Finding(
            "toolchain",
            "fail",
            f"the engine compiles kernels at run time; missing: {' and '.join(missing)}",
            "install them (Debian: gcc, and the interpreter's -dev package), or use the container image",
        )
    if facts.nvcc is None:
        return Finding(
            "toolchain",
            "warn",
            f"{facts.compiler} is installed, nvcc is not: FlashInfer kernels without a shipped binary fail",
            "install the CUDA toolkit of the engine's CUDA version, or set CUDA_HOME",
        )
    return Finding("toolchain", "ok", f"{facts.compiler}, Python's headers and {facts.nvcc}")


def kernels(facts: HostFacts) -> Finding:
    """The kernel check's result for this engine and device."""
    wrong = facts.kernels_wrong
    if facts.engine_command is not None or facts.engine_version is None:
        return Finding("kernels", "ok", "no vLLM to check")
    if wrong is None:
        return Finding(
            "kernels",
            "warn",
            "not compared with float32 yet",
            "run `pareta-agent engine check` (`serve` does, too)",
        )
    if wrong:
        return Finding(
            "kernels",
            "warn",
            f"wrong results on this device: {', '.join(wrong)}",
            "none required: plans avoid wrong kernels; another engine version may have right kernels",
        )
    return Finding("kernels", "ok", f"{facts.kernels_compared} comparisons with float32, all within rounding")
